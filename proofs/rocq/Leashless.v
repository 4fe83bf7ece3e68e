(** * The path of policy gradient without a leash (T10) *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Foundations Landscape Penalties.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

Section Leashless.
Variable Y : finType.
Variables (ref r : Y -> R).
Hypothesis ref0 : forall y, 0 < ref y.
Implicit Types (sigma tau : R) (theta : R -> Y -> R).

Definition path_weight sigma tau y := / ref y + (sigma - tau * r y).

Lemma softmax_minus_ln (w : Y -> R) y : (forall z, 0 < w z) ->
  softmax (fun z => - ln (w z)) y = / w y / \sum_(z : Y) / w z.
Proof.
move=> w0; have e z : exp (- ln (w z)) = / w z by rewrite exp_Ropp exp_ln.
by rewrite /softmax e; congr (_ / _); apply: sum_ext.
Qed.

(** Along logits -ln(1/ref + sigma - tau r) with sum ln(1 + ref (sigma - tau r)) = 0 and the clock
    tau' = 1/(sum of the exponentials), theta' is the gradient p (r - E_p r) of the reward. *)
Theorem path_solves_flow (sigma tau : R -> R) (a b t : R) y : a < t < b ->
  (forall u, a < u < b -> (forall z, 0 < path_weight (sigma u) (tau u) z) /\
     \sum_(z : Y) ln (1 + ref z * (sigma u - tau u * r z)) = 0) ->
  let theta u z := - ln (path_weight (sigma u) (tau u) z) in
  let p := softmax (theta t) in
  ex_derive sigma t -> is_derive tau t (/ \sum_(z : Y) exp (theta t z)) ->
  is_derive (fun u => theta u y) t (p y * (r y - E p r)).
Proof.
move=> tab path theta p exs dtau; have [w0 _] := path t tab.
have [ds sD] : exists ds : R, is_derive sigma t ds by exists (Derive sigma t); exact: Derive_correct.
set W := \sum_(z : Y) exp (theta t z) in dtau.
have eE z : exp (theta t z) = / path_weight (sigma t) (tau t) z by rewrite /theta exp_Ropp exp_ln.
have W0 : 0 < W by apply: (sum_gt0 (y := y)) => [z|]; [apply/Rlt_le|]; exact: exp_pos.
have ext : ex_derive tau t by eexists; exact: dtau.
have line z : is_derive (fun u => ln (1 + ref z * (sigma u - tau u * r z))) t
                        ((ds - / W * r z) * exp (theta t z)).
  have p1 : 1 + ref z * (sigma t - tau t * r z) = ref z * path_weight (sigma t) (tau t) z.
    by rewrite /path_weight; field; move: (ref0 z); lra.
  have p0 := Rmult_lt_0_compat _ _ (ref0 z) (w0 z).
  auto_derive; first by rewrite p1.
  rewrite (is_derive_unique _ _ _ sD) (is_derive_unique _ _ _ dtau) p1 eE; field.
  by move: (ref0 z) (w0 z); lra.
have tot : \sum_(z : Y) ((ds - / W * r z) * exp (theta t z)) = 0.
  have d1 := @is_derive_sum _ (fun z u => ln (1 + ref z * (sigma u - tau u * r z)))
    (fun z _ => (ds - / W * r z) * exp (theta t z)) t line.
  have d2 : is_derive (fun u => \sum_(z : Y) ln (1 + ref z * (sigma u - tau u * r z))) t 0.
    apply: (is_derive_ext_loc (fun _ => 0)); last exact: is_derive_const.
    apply: (locally_interval _ t a b); try by case: tab.
    by move=> u au ub; symmetry; apply path; split.
  by rewrite -(is_derive_unique _ _ _ d1) (is_derive_unique _ _ _ d2).
have pE z : p z = exp (theta t z) / W by [].
have dsE : ds = / W * E p r.
  have e : \sum_(z : Y) ((ds - / W * r z) * exp (theta t z)) = ds * W - E p r.
    rewrite /E /W !collect; apply: sum_ext => z; rewrite pE -/W; field; lra.
  by rewrite (_ : E p r = ds * W); [field | rewrite e in tot]; lra.
have -> : p y * (r y - E p r) = - (ds - / W * r y) / path_weight (sigma t) (tau t) y.
  by rewrite pE eE dsE; field; split; [lra | move: (w0 y); lra].
have wy := w0 y; rewrite /theta /path_weight in wy *; auto_derive; first by [].
by rewrite (is_derive_unique _ _ _ sD) (is_derive_unique _ _ _ dtau) /Rdiv /Rminus; ring.
Qed.

(** Any solution of the flow from ref is on that path. *)
Theorem flow_on_path theta (a b t : R) : a < 0 < b -> a < t < b ->
  (forall y, theta 0 y = ln (ref y)) ->
  (forall u y, a < u < b ->
   is_derive (fun u => theta u y) u (softmax (theta u) y * (r y - E (softmax (theta u)) r))) ->
  exists sigma tau, (forall y, 0 < path_weight sigma tau y) /\
    \sum_(y : Y) ln (1 + ref y * (sigma - tau * r y)) = 0 /\
    (forall y, theta t y = - ln (path_weight sigma tau y)) /\
    (forall y, softmax (theta t) y = / path_weight sigma tau y / \sum_(z : Y) / path_weight sigma tau z).
Proof.
move=> ab0 abt start flow.
have const (f : R -> R) : (forall u, a < u < b -> is_derive f u 0) -> f t = f 0.
  move=> df; case: (Rtotal_order t 0) => [h|[->//|h]].
    by apply: (eq_is_derive f) => // u hu; apply: df; lra.
  by symmetry; apply: (eq_is_derive f) => // u hu; apply: df; lra.
pose S u := \sum_(y : Y) exp (theta u y); pose J u := E (softmax (theta u)) r.
pose w u y := exp (- theta u y).
have S0 u (y : Y) : 0 < S u by apply: (sum_gt0 (y := y)) => [z|]; [apply/Rlt_le|]; exact: exp_pos.
have dw u y : a < u < b -> is_derive (fun u => w u y) u (J u / S u - r y / S u).
  move=> hu; have := flow u y hu; set th := fun u => theta u y => dth.
  have ex : ex_derive th u by eexists; exact: dth.
  change (is_derive (fun u => exp (- th u)) u (J u / S u - r y / S u)).
  auto_derive => //; rewrite (is_derive_unique _ _ _ dth) -/(J u) exp_Ropp /softmax -/(S u) /th.
  by have s0 := S0 u y; have e0 := exp_pos (theta u y); field; lra.
have w0 y : w 0 y = / ref y by rewrite /w start exp_Ropp exp_ln.
have affine : exists sigma tau, forall y, w t y = path_weight sigma tau y.
  case: (Classical_Prop.classic (exists y1 y2, r y1 <> r y2)) => [[y1 [y2 neq]]|same].
    pose D y := w t y - w 0 y.
    have lin y : (r y1 - r y2) * D y = (r y - r y2) * D y1 + (r y1 - r y) * D y2.
      suff: (r y1 - r y2) * w t y - (r y - r y2) * w t y1 - (r y1 - r y) * w t y2 =
            (r y1 - r y2) * w 0 y - (r y - r y2) * w 0 y1 - (r y1 - r y) * w 0 y2.
        by rewrite /D; lra.
      apply: (const (fun u => (r y1 - r y2) * w u y - (r y - r y2) * w u y1 - (r y1 - r y) * w u y2)).
      move=> u hu; have := dw u y hu; have := dw u y1 hu; have := dw u y2 hu.
      set A := fun u => w u y; set B := fun u => w u y1; set C := fun u => w u y2 => dC dB dA.
      have exA : ex_derive A u by eexists; exact: dA.
      have exB : ex_derive B u by eexists; exact: dB.
      have exC : ex_derive C u by eexists; exact: dC.
      change (is_derive (fun u => (r y1 - r y2) * A u - (r y - r y2) * B u - (r y1 - r y) * C u) u 0).
      auto_derive => //; rewrite (is_derive_unique _ _ _ dA) (is_derive_unique _ _ _ dB).
      by rewrite (is_derive_unique _ _ _ dC); field; move: (S0 u y); lra.
    exists ((r y1 * D y2 - r y2 * D y1) / (r y1 - r y2)), (- (D y1 - D y2) / (r y1 - r y2)) => y.
    have e : w t y = w 0 y + D y by rewrite /D; ring.
    have rr : r y1 - r y2 <> 0 by lra.
    rewrite e w0 /path_weight; congr (_ + _); apply: (Rmult_eq_reg_l (r y1 - r y2)) => //.
    by rewrite lin; field.
  exists 0, 0 => y; rewrite /path_weight -w0.
  rewrite (_ : w t y = w 0 y); first by ring.
  apply: (const (fun u => w u y)) => u hu; have := dw u y hu.
  rewrite (_ : J u / S u - r y / S u = 0) //.
  suff -> : J u = r y by field; move: (S0 u y); lra.
  rewrite /J -(E_const (r y) (softmax_law (theta u) (inhabits y))); apply: E_ext => z.
  by apply: Classical_Prop.NNPP => n; apply: same; exists z, y.
have [sigma [tau wE]] := affine.
have pos y : 0 < path_weight sigma tau y by rewrite -wE; exact: exp_pos.
have thE y : theta t y = - ln (path_weight sigma tau y) by rewrite -wE ln_exp; ring.
exists sigma, tau; split=> //; split; last split=> //; last first.
  move=> y; rewrite -softmax_minus_ln //; rewrite /softmax thE; congr (_ / _).
  by apply: sum_ext => z; rewrite thE.
have sums : sum (theta t) = sum (theta 0).
  apply: (const (fun u => sum (theta u))) => u hu.
  have := @is_derive_sum _ (fun y u => theta u y) (fun y u => softmax (theta u) y * (r y - J u)) u
    (fun y => flow u y hu).
  rewrite (_ : \sum_(y : Y) (softmax (theta u) y * (r y - J u)) = 0) //.
  case: (Classical_Prop.classic (inhabited Y)) => [inh|none].
    have l := softmax_law (theta u) inh.
    have := E_minus (softmax (theta u)) r (fun _ => J u); rewrite E_const // => e.
    by rewrite -[RHS](Rminus_eq_0 (J u)); exact: e.
  rewrite -(sum_0 Y); apply: sum_ext => y; case: none; exact: inhabits y.
rewrite -[RHS](Rminus_eq_0 (sum (theta t))) {1}sums !collect; apply: sum_ext => y.
rewrite start thE (_ : 1 + ref y * (sigma - tau * r y) = ref y * path_weight sigma tau y).
  by rewrite ln_mult //; ring.
by rewrite /path_weight; field; move: (ref0 y); lra.
Qed.

(** For each tau there is a sigma ... *)
Theorem path_sigma_exists tau : inhabited Y -> exists sigma, (forall y, 0 < path_weight sigma tau y) /\
  \sum_(y : Y) ln (1 + ref y * (sigma - tau * r y)) = 0.
Proof.
move=> [y1]; have [ys hs] := exists_max (fun y => tau * r y - / ref y) y1.
have [yu hu] := exists_max (fun y => tau * r y) y1.
set L := tau * r ys - / ref ys in hs *; set U := tau * r yu in hu *.
pose f sigma := \sum_(y : Y) ln (1 + ref y * (sigma - tau * r y)).
have wE sigma y : 1 + ref y * (sigma - tau * r y) = ref y * (sigma - (tau * r y - / ref y)).
  by field; move: (ref0 y); lra.
have pos sigma y : L < sigma -> 0 < 1 + ref y * (sigma - tau * r y).
  by move=> h; rewrite wE; apply: Rmult_lt_0_compat => //; move: (hs y); lra.
have mono a b : 0 < a -> a <= b -> ln a <= ln b by move=> a0 [/(ln_increasing _ _ a0)|->]; lra.
have term0 y : 0 <= ln (1 + ref y * (U - tau * r y)).
  rewrite -ln_1; apply: mono; first by lra.
  by have := Rmult_le_pos (ref y) (U - tau * r y) (Rlt_le _ _ (ref0 y)) ltac:(move: (hu y); lra); lra.
have fU : 0 <= f U by exact: sum_ge0.
set e := exp (- f U); have e0 : 0 < e := exp_pos _.
have e1 : e <= 1 by rewrite -exp_0 /e; case: fU => [h|<-]; [apply/Rlt_le/exp_increasing | rewrite
  Ropp_0]; lra.
pose s0 := L + e / ref ys; have q0 : 0 < e / ref ys by exact: Rdiv_lt_0_compat.
have s0U : s0 <= U.
  have : e / ref ys <= / ref ys.
    by rewrite /Rdiv -[X in _ <= X]Rmult_1_l; apply: Rmult_le_compat_r e1; apply/Rlt_le/Rinv_0_lt_compat.
  by move: (hu ys); rewrite /s0 /L; lra.
have f0 : f s0 <= 0.
  have gap y : ln (1 + ref y * (s0 - tau * r y)) <= ln (1 + ref y * (U - tau * r y)).
    apply: mono; first by apply: pos; rewrite /s0; lra.
    by have := Rmult_le_compat_l (ref y) _ _ (Rlt_le _ _ (ref0 y)) s0U; lra.
  pose D y := ln (1 + ref y * (U - tau * r y)) - ln (1 + ref y * (s0 - tau * r y)).
  have : D ys <= sum D by apply: term_le_sum => y; move: (gap y); rewrite /D; lra.
  rewrite /D -sum_minus -/(f U) -/(f s0) [1 + ref ys * (s0 - _)]wE -/L /s0.
  rewrite (_ : ref ys * (L + e / ref ys - L) = e); last by field; move: (ref0 ys); lra.
  by rewrite /e ln_exp; move: (term0 ys); lra.
have cont x : s0 <= x <= U -> continuity_pt (fun x => - f x) x.
  move=> hx; apply: continuity_pt_opp; apply: (continuity_sum (f := fun y x => ln (1 + ref y * (x - tau
    * r y)))) => y.
  change (continuity_pt (fun x => ln (1 + ref y * (x - tau * r y))) x).
  apply/continuity_pt_filterlim; apply: (ex_derive_continuous (fun x => ln (1 + ref y * (x - tau * r y)))).
  by auto_derive; apply: pos; move: hx; rewrite /s0; lra.
have n0 : 0 <= - f s0 by lra. have nU : - f U <= 0 by lra.
have [x [hx z]] := zero_between cont s0U n0 nU.
exists x; split=> [y|]; last by move: z; rewrite /f; lra.
by have := hs y; rewrite /path_weight; move: hx; rewrite /s0; lra.
Qed.

(** ... and only one. *)
Theorem path_sigma_unique sigma (sigma' : R) tau : inhabited Y -> sigma < sigma' ->
  (forall y, 0 < path_weight sigma tau y) ->
  \sum_(y : Y) ln (1 + ref y * (sigma - tau * r y)) < \sum_(y : Y) ln (1 + ref y * (sigma' - tau * r y)).
Proof.
move=> [y0] lt pos; set f := fun y => ln (1 + ref y * (sigma' - tau * r y)) - ln (1 + ref y * (sigma -
  tau * r y)).
suff: 0 < sum f by rewrite /f -sum_minus; lra.
have f0 y : 0 < f y.
  have p1 : 1 + ref y * (sigma - tau * r y) = ref y * path_weight sigma tau y.
    by rewrite /path_weight; field; move: (ref0 y); lra.
  have := Rmult_lt_0_compat _ _ (ref0 y) (pos y); rewrite -p1 => h.
  have := Rmult_lt_compat_l _ _ _ (ref0 y) lt => h'.
  by have := ln_increasing _ (1 + ref y * (sigma' - tau * r y)) h ltac:(lra); rewrite /f; lra.
by apply: (sum_gt0 (y := y0)) => // y; exact/Rlt_le.
Qed.

(** From a uniform ref the path is S5's frontier. *)
Theorem path_from_uniform sigma tau k p' : law ref -> (forall y, ref y = k) -> 0 < tau ->
  (forall y, 0 < path_weight sigma tau y) ->
  let p y := / path_weight sigma tau y / \sum_(z : Y) / path_weight sigma tau z in
  law p' -> ref ≪ p' -> E p r <= E p' r -> KL ref p <= KL ref p'.
Proof.
move=> lr uni t0 pos p lp' rp J; have [y0 _] := law_support lr.
have k0 : 0 < k by rewrite -(uni y0).
set C := \sum_(z : Y) / path_weight sigma tau z.
have C0 : 0 < C by apply: (sum_gt0 (y := y0)) => [z|]; [apply/Rlt_le|]; exact: Rinv_0_lt_compat.
set beta := / (C * tau * k); set mu := (/ k + sigma) / tau.
have b0 : 0 < beta by apply/Rinv_0_lt_compat/Rmult_lt_0_compat => //; exact: Rmult_lt_0_compat.
have gap y : mu - r y = path_weight sigma tau y / tau.
  by rewrite /mu /path_weight uni; field; lra.
have rm y : r y < mu by have := Rdiv_lt_0_compat _ _ (pos y) t0; rewrite -gap; lra.
have oE y : forward_optimum ref r beta mu y = p y.
  by rewrite /forward_optimum gap /p -/C /beta uni; field; move: (pos y); lra.
have s1 : sum (forward_optimum ref r beta mu) = 1.
  rewrite (sum_ext oE) /p -/C (_ : \sum_(y : Y) / path_weight sigma tau y / C = C / C).
    by field; lra.
  by rewrite /Rdiv Rmult_comm sum_scal; apply: sum_ext => y; rewrite Rmult_comm.
have [le _] := forward_optimum_on_frontier lp' lr rp ref0 b0 rm s1 ltac:(rewrite (E_law_ext _ oE); exact: J).
by rewrite (KL_ext (fun y => erefl (ref y)) oE) in le.
Qed.

End Leashless.
