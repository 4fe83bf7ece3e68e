(** * Where k3 penalties end, in the loss and in the reward (T2) *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Foundations SftThenRl Landscape.
From NonDecoupling Require Import RlThenSft PriceOfReward Overpayment Verifiable.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

(** ** T2: k3 in the loss *)
Section ForwardLeash.
Variable Y : finType.
Implicit Types (p q d ref r : Y -> R) (beta mu c M : R).

(** The regularised reward with the forward KL, and p* = beta ref/(mu - r). *)
Definition forward_objective p ref r beta := E p r - beta * KL ref p.
Definition forward_optimum ref r beta mu (y : Y) := beta * ref y / (mu - r y).

Lemma forward_optimum_law ref r beta mu : (forall y, 0 < ref y) -> 0 < beta ->
  (forall y, r y < mu) -> sum (forward_optimum ref r beta mu) = 1 ->
  law (forward_optimum ref r beta mu) /\ forall y, 0 < forward_optimum ref r beta mu y.
Proof.
move=> r0 b0 rm s1; have pos y : 0 < forward_optimum ref r beta mu y.
  apply: Rdiv_lt_0_compat; [exact: Rmult_lt_0_compat | by move: (rm y); lra].
by split=> //; split=> [y|//]; exact/Rlt_le.
Qed.

Theorem forward_optimum_reward ref r beta mu : law ref -> (forall y, r y < mu) ->
  sum (forward_optimum ref r beta mu) = 1 -> E (forward_optimum ref r beta mu) r = mu - beta.
Proof.
move=> lr rm s1.
have e : E (forward_optimum ref r beta mu) r = mu * sum (forward_optimum ref r beta mu) - beta * sum ref.
  rewrite /E !collect; apply: sum_ext => y; rewrite /forward_optimum; field.
  by move: (rm y); lra.
by rewrite e s1 (proj2 lr); ring.
Qed.

(** O(p* ) - O(p) = beta E_ref[z - 1 - log z], z = p/p*. *)
Theorem forward_gap p ref r beta mu : law p -> law ref -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta -> (forall y, r y < mu) ->
  sum (forward_optimum ref r beta mu) = 1 ->
  let z y := p y / forward_optimum ref r beta mu y in
  forward_objective (forward_optimum ref r beta mu) ref r beta - forward_objective p ref r beta =
  beta * E ref (fun y => z y - 1 - ln (z y)).
Proof.
move=> lp lr p0 r0 b0 rm s1 z; have [lo o0] := forward_optimum_law r0 b0 rm s1.
rewrite /forward_objective (forward_optimum_reward lr rm s1).
suff: beta * E ref (fun y => z y - 1 - ln (z y)) =
  (mu - E p r) - beta + beta * (KL ref p - KL ref (forward_optimum ref r beta mu)) by lra.
have -> : mu - E p r - beta = mu * sum p - E p r - beta * sum ref by rewrite (proj2 lp) (proj2 lr); ring.
rewrite /KL /E !collect; apply: sum_ext => y; rewrite /z.
rewrite (ln_quotient (p0 y) (o0 y)) (ln_quotient (r0 y) (p0 y)) (ln_quotient (r0 y) (o0 y)).
have -> : p y / forward_optimum ref r beta mu y = p y * (mu - r y) / (beta * ref y).
  by rewrite /forward_optimum; field; move: (r0 y) (rm y); lra.
by field; move: (r0 y); lra.
Qed.

Theorem forward_unique p ref r beta mu : law p -> law ref -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta -> (forall y, r y < mu) ->
  sum (forward_optimum ref r beta mu) = 1 ->
  forward_objective p ref r beta <= forward_objective (forward_optimum ref r beta mu) ref r beta /\
  (forward_objective p ref r beta = forward_objective (forward_optimum ref r beta mu) ref r beta <->
   forall y, p y = forward_optimum ref r beta mu y).
Proof.
move=> lp lr p0 r0 b0 rm s1; have [lo o0] := forward_optimum_law r0 b0 rm s1.
pose z y := p y / forward_optimum ref r beta mu y.
have gap : forward_objective (forward_optimum ref r beta mu) ref r beta - forward_objective p ref r beta
  = beta * E ref (fun y => z y - 1 - ln (z y)) by exact: forward_gap.
have z0 y : 0 < z y by exact: Rdiv_lt_0_compat.
have t0 y : 0 <= ref y * (z y - 1 - ln (z y)).
  by apply: Rmult_le_pos; [exact/Rlt_le | exact: sub1_ln_ge0].
have e0 : 0 <= E ref (fun y => z y - 1 - ln (z y)) by exact: sum_ge0.
have be0 := Rmult_le_pos _ _ (Rlt_le _ _ b0) e0.
split; first by lra.
split=> [e y|e].
  have ez : E ref (fun y => z y - 1 - ln (z y)) = 0 by apply: (Rmult_eq_reg_l beta); lra.
  have /Rmult_integral [|h] := sum_eq0 t0 ez y; first by move: (r0 y); lra.
  have : z y = 1 by apply: ln_eq_sub1 => //; lra.
  by move=> h1; rewrite -(Rmult_1_l (forward_optimum _ _ _ _ y)) -h1 /z; field; move: (o0 y); lra.
suff ez : E ref (fun y => z y - 1 - ln (z y)) = 0 by rewrite ez in gap; lra.
rewrite -(sum_0 Y); apply: sum_ext => y; rewrite /z e /Rdiv Rinv_r ?ln_1; [ring | by move: (o0 y); lra].
Qed.

(** mu exists, between max r + beta ref(argmax r) and max r + beta, and is unique. *)
Theorem forward_mu_exists ref r beta : law ref -> (forall y, 0 < ref y) -> 0 < beta ->
  exists mu, (forall y, r y < mu) /\ sum (forward_optimum ref r beta mu) = 1.
Proof.
move=> lr r0 b0; have [y1 _] := law_support lr; have [y0 top] := exists_max r y1.
have ref1 : ref y0 <= 1 by rewrite -(proj2 lr); apply: term_le_sum => z; exact/Rlt_le.
have br := Rmult_lt_0_compat _ _ b0 (r0 y0).
set f := fun mu => sum (forward_optimum ref r beta mu) - 1.
have cont mu : r y0 < mu -> continuity_pt f mu.
  move=> h; apply: continuity_pt_minus; last by apply: continuity_pt_const.
  apply: (continuity_sum (f := fun y mu => beta * ref y / (mu - r y))) => y.
  change (continuity_pt (fun mu => beta * ref y / (mu - r y)) mu).
  apply/continuity_pt_filterlim; apply: (ex_derive_continuous (fun mu => beta * ref y / (mu - r y))).
  by auto_derive; move: (top y); lra.
have lo : 0 <= f (r y0 + beta * ref y0).
  have o0 y : 0 <= forward_optimum ref r beta (r y0 + beta * ref y0) y.
    by apply: Rle_mult_inv_pos; [apply: Rmult_le_pos; exact/Rlt_le | move: (top y); lra].
  have := term_le_sum y0 o0; rewrite {1}/forward_optimum /f.
  by rewrite (_ : beta * ref y0 / (r y0 + beta * ref y0 - r y0) = 1); [lra | field; lra].
have hi : f (r y0 + beta) <= 0.
  rewrite /f; suff: sum (forward_optimum ref r beta (r y0 + beta)) <= sum ref by rewrite (proj2 lr); lra.
  apply: sum_le => y; rewrite /forward_optimum; have t := top y; have ry := r0 y.
  apply: (Rmult_le_reg_r (r y0 + beta - r y)); first by lra.
  rewrite /Rdiv Rmult_assoc Rinv_l; last by lra.
  by rewrite Rmult_1_r (Rmult_comm beta); apply: Rmult_le_compat_l; lra.
have le := Rmult_le_compat_l beta _ _ (Rlt_le _ _ b0) ref1.
have cf x : r y0 + beta * ref y0 <= x <= r y0 + beta -> continuity_pt f x.
  by move=> hx; apply: cont; lra.
have [mu [hmu z]] := zero_between cf ltac:(lra) lo hi.
by exists mu; split=> [y|]; [move: (top y) | move: z; rewrite /f]; lra.
Qed.

(** With ref = d it pays exactly the price of its reward: no policy with at least that reward has a
    smaller KL(d‖.). *)
Theorem forward_optimum_on_frontier d p r beta mu : law p -> law d -> d ≪ p ->
  (forall y, 0 < d y) -> 0 < beta -> (forall y, r y < mu) ->
  sum (forward_optimum d r beta mu) = 1 ->
  E (forward_optimum d r beta mu) r <= E p r ->
  KL d (forward_optimum d r beta mu) <= KL d p /\
  (KL d p = KL d (forward_optimum d r beta mu) -> forall y, p y = forward_optimum d r beta mu y).
Proof.
move=> lp ld dp d0 b0 rm s1 J; have p0 y : 0 < p y by exact: dominated_pos dp (d0 y).
have [le [uniq _]] := forward_unique lp ld p0 d0 b0 rm s1.
rewrite /forward_objective in le uniq; split; first by apply: (Rmult_le_reg_l beta); lra.
by move=> e; apply: uniq; rewrite e in le *; lra.
Qed.

(** Every reward strictly between J(d) and max r is that of some beta. *)
Theorem forward_every_reward d r c y0 : law d -> (forall y, 0 < d y) -> (forall y, r y <= r y0) ->
  E d r < c < r y0 -> exists beta, 0 < beta /\ (forall y, r y < c + beta) /\
  sum (forward_optimum d r beta (c + beta)) = 1 /\ E (forward_optimum d r beta (c + beta)) r = c.
Proof.
move=> ld d0 top [dc cM].
have [l [p [l01 [l1 [lp [dp [pc [pE _]]]]]]]] := strong_duality ld top cM (erefl (r y0)) dc.
have l1' : l < 1.
  by case: (Rlt_le_dec l 1) => // h; have := l1 ltac:(lra) y0 erefl; move: (d0 y0); lra.
have l0 : 0 < l.
  case: (Rlt_le_dec 0 l) => // h; have lz : l = 0 by lra.
  suff: E p r = E d r by lra.
  apply: E_law_ext => y; rewrite pE; last by left.
  by rewrite lz; field; lra.
set beta := (r y0 - c) / l; have b0 : 0 < beta by apply: Rdiv_lt_0_compat; lra.
have bl : beta * l = r y0 - c by rewrite /beta; field; lra.
have b1 : r y0 - c < beta by have := Rmult_lt_compat_l beta _ _ b0 l1'; lra.
have oE y : forward_optimum d r beta (c + beta) y = p y.
  rewrite pE; last by left.
  rewrite /forward_optimum -bl; have t := top y.
  have : 0 < c + beta - r y by lra.
  by move=> h; field; lra.
exists beta; split=> //; split=> [y|]; first by move: (top y); lra.
split; last by rewrite -[RHS]pc; exact: E_law_ext.
by rewrite -[RHS](proj2 lp); exact: sum_ext.
Qed.

(** ** T2: k3 in the reward *)

(** The objective that k3 in the reward trains (T1). *)
Definition k3_objective p ref r beta := E p r - beta * (KL p ref - KL ref p).

Lemma KL_le_ln_min p ref m : law p -> law ref -> 0 < m -> (forall y, m <= ref y) -> KL p ref <= - ln m.
Proof.
move=> lp lr m0 rm; rewrite -(E_const (- ln m) lp); apply: sum_le => y.
case: (law_case y lp) => [->|py]; first by lra.
have ry : 0 < ref y by move: (rm y); lra.
apply: Rmult_le_compat_l; first by lra.
rewrite ln_quotient //.
have p1 : ln (p y) <= 0.
  have : p y <= 1 by rewrite -(proj2 lp); apply: term_le_sum; apply lp.
  by case=> [/(ln_increasing _ _ py)|->]; rewrite ln_1; lra.
have : ln m <= ln (ref y) by case: (rm y) => [/(ln_increasing _ _ m0)|->]; lra.
by lra.
Qed.

Theorem k3_in_reward_unbounded ref r beta (y0 y1 : Y) B : law ref -> (forall y, 0 < ref y) ->
  0 < beta -> y0 != y1 -> exists p, law p /\ (forall y, 0 < p y) /\ B < k3_objective p ref r beta.
Proof.
move=> lr r0 b0 neq; have [ym min] := exists_max (fun y => - ref y) y0.
have m0 := r0 ym; set m := ref ym in m0.
have rm y : m <= ref y by move: (min y); rewrite /m; lra.
have [yr low] := exists_max (fun y => - r y) y0.
set a := ref y0; have a0 : 0 < a := r0 y0.
have a1 : a < 1.
  have := two_terms_le_sum neq (fun y => Rlt_le _ _ (r0 y)); rewrite (proj2 lr) -/a.
  by move: (r0 y1); lra.
(* move all but e of y0's mass to y1 *)
set b := a * ln a + (1 - a) * ln (1 - a).
set X := ((B - r yr) / beta - ln m - b) / a.
set e := a * exp (- Rabs X - 1).
have ex1 : exp (- Rabs X - 1) < 1 by rewrite -[X in _ < X]exp_0; apply: exp_increasing;
  move: (Rabs_pos X); lra.
have ex0 := exp_pos (- Rabs X - 1).
have e0 : 0 < e by exact: Rmult_lt_0_compat.
have ea : e < a by have := Rmult_lt_compat_l a _ _ a0 ex1; rewrite -/e; lra.
pose p y := if y == y0 then e else if y == y1 then ref y1 + (a - e) else ref y.
have p0 y : 0 < p y.
  by rewrite /p; case: (y == y0) => //; case: (y == y1); move: (r0 y) (r0 y1); lra.
have lp : law p.
  split=> [y|]; first exact/Rlt_le.
  have -> : sum p = sum ref + \sum_(y : Y) (if y == y0 then e - a else 0) +
                    \sum_(y : Y) (if y == y1 then a - e else 0); first last.
    by rewrite !sum_single (proj2 lr); ring.
  rewrite !collect; apply: sum_ext => y; rewrite /p; case: (eqVneq y y0) => [->|_].
    by rewrite (negbTE neq) /a; ring.
  by case: (eqVneq y y1) => [->|_]; ring.
exists p; split=> //; split=> //.
have kl1 := KL_le_ln_min lp lr m0 rm.
have s q : success (fun y => y == y0) q = q y0.
  rewrite success_sum -(@sum_single Y y0 (q y0)); apply: sum_ext => y.
  by case: (eqVneq y y0) => [->|].
have py0 : p y0 = e by rewrite /p eqxx.
have a01 : 0 < success (fun y => y == y0) p < 1 by rewrite s py0; lra.
have rp : ref ≪ p by exact: full_dominates.
have [kl2 _] := least_KL_at_success lr lp rp a01.
rewrite !s py0 -/a /coin_kl in kl2.
have t1 : ln ((1 - a) / (1 - e)) >= ln (1 - a).
  rewrite ln_quotient; try lra.
  by have := ln_increasing (1 - e) 1 ltac:(lra) ltac:(lra); rewrite ln_1; lra.
have t2 : ln (a / e) = Rabs X + 1.
  rewrite ln_quotient // /e ln_mult ?ln_exp //; lra.
have J : r yr <= E p r.
  by rewrite -(E_const (r yr) lp); apply: E_le => // y; move: (low y); lra.
have t3 := Rmult_ge_compat_l (1 - a) _ _ ltac:(lra) t1.
have aX : a * X = (B - r yr) / beta - ln m - b by rewrite /X; field; lra.
have aX1 : a * X < a * (Rabs X + 1) by apply: Rmult_lt_compat_l => //; move: (Rle_abs X); lra.
have la : a * ln a <= 0.
  have := ln_increasing a 1 a0 a1; rewrite ln_1 => h.
  by have := Rmult_le_pos a (- ln a) ltac:(lra) ltac:(lra); lra.
rewrite t2 in kl2.
have gap : (B - r yr) / beta < KL ref p - KL p ref by rewrite /b in aX; lra.
have := Rmult_lt_compat_l beta _ _ b0 gap.
rewrite (_ : beta * ((B - r yr) / beta) = B - r yr); last by field; lra.
by rewrite /k3_objective; lra.
Qed.

(** At p = ref the penalty has no gradient and no Hessian, in any direction of the logits. *)
Theorem k3_in_reward_flat (theta g : Y -> R) : inhabited Y ->
  let ref := softmax theta in
  let q eta := softmax (fun y => theta y + eta * g y) in
  exists D : R -> R, (forall eta, is_derive (fun eta => KL (q eta) ref - KL ref (q eta)) eta (D eta)) /\
            D 0 = 0 /\ is_derive D 0 0.
Proof.
move=> inh ref q; have lr : law ref by exact: softmax_law.
pose A eta := ln (E ref (fun y => exp (eta * g y))).
pose e eta := E (tilt_at ref g eta) g; pose V eta := Var (tilt_at ref g eta) g.
have qE eta y : q eta y = tilt_at ref g eta y by exact: softmax_step.
have id eta : eta * (e eta + e 0) - 2 * A eta = KL (q eta) ref - KL ref (q eta).
  have t0 y : tilt_at ref g 0 y = ref y.
    rewrite /tilt_at -[RHS]gibbs_zero //; move: y; apply/gibbs_eq_iff => // y z _ _; ring.
  rewrite (KL_ext (qE eta) (fun y => erefl (ref y))) (KL_ext (fun y => erefl (ref y)) (qE eta)).
  rewrite [KL ref _]KL_gibbs // [KL (tilt_at _ _ _) _]KL_gibbs_self // KL_refl // !E_scal -/(A eta).
  by rewrite -/(tilt_at ref g eta) /e (E_law_ext _ t0); ring.
have dA eta : is_derive A eta (e eta).
  have z0 := E_exp_gt0 (fun y => eta * g y) lr; have dz := is_derive_partition ref g eta.
  set P := fun eta => E ref (fun y => exp (eta * g y)) in dz.
  have exP : ex_derive P eta by eexists; exact: dz.
  change (is_derive (fun eta => ln (P eta)) eta (e eta)).
  auto_derive; first by split.
  rewrite (is_derive_unique _ _ _ dz) /e E_tilt_at // /P; field; lra.
have de eta : is_derive e eta (V eta) by exact: reward_derivative.
exists (fun eta => e 0 - e eta + eta * V eta); split; last split.
- move=> eta; apply: (is_derive_ext _ _ _ _ id).
  have exA : ex_derive A eta by eexists; exact: dA.
  have exe : ex_derive e eta by eexists; exact: de.
  auto_derive; first by [].
  by rewrite (is_derive_unique _ _ _ (dA eta)) (is_derive_unique _ _ _ (de eta)); ring.
- by change (@eq R (e 0 - e 0 + 0 * V 0) 0); ring.
have exV : ex_derive V 0.
  apply: (ex_derive_ext (fun eta => E (tilt_at ref g eta) (fun y => g y ^ 2) - e eta ^ 2)) => [t|].
    by rewrite /V Var_moments //; exact: gibbs_law.
  have ex2 := ex_derive_E_tilt_at g (fun y => g y ^ 2) 0 lr.
  have exe : ex_derive (fun t => e t ^ 2) 0 by apply: ex_derive_pow; eexists; exact: de.
  exact: (ex_derive_minus _ _ _ ex2 exe).
have exe : ex_derive e 0 by eexists; exact: de.
auto_derive; first by [].
rewrite (is_derive_unique _ _ _ (de 0)); ring.
Qed.

(** (x + rho) log(x/rho) lies strictly below its tangents for x < rho. *)
Lemma k3_penalty_concave rho a x : 0 < a < rho -> 0 < x < rho -> x <> a ->
  (x + rho) * ln (x / rho) < (a + rho) * ln (a / rho) + (ln (a / rho) + 1 + rho / a) * (x - a).
Proof.
move=> a0 x0 neq; set c := rho / a; set t := x / a.
have c1 : 1 < c by apply/Rlt_div_r; lra.
have t0 : 0 < t by apply: Rdiv_lt_0_compat; lra.
have xE : x = t * a by rewrite /t; field; lra.
have rE : rho = c * a by rewrite /c; field; lra.
have tc : t < c by apply: (Rmult_lt_reg_r a); rewrite -?xE -?rE; lra.
have t1 : t <> 1 by move=> e; apply: neq; rewrite xE e; ring.
pose k u := (u + c) * ln u - (u - 1) * (1 + c).
pose k' u := ln u + c / u - c.
have dk u : 0 < u -> is_derive k u (k' u).
  by move=> u0; rewrite /k /k'; auto_derive => //; field; lra.
have k1 : k 1 = 0 by rewrite /k ln_1; ring.
have right u : 1 < u -> u < c -> k' u < 0.
  move=> u1 uc; have := @ln_le_sub1 u ltac:(lra).
  have : (u - 1) * (c / u - 1) > 0.
    by apply: Rmult_lt_0_compat; [lra | rewrite (_ : c / u - 1 = (c - u) / u);
      [apply: Rdiv_lt_0_compat |field]; lra].
  rewrite (_ : (u - 1) * (c / u - 1) = c - c / u - (u - 1)); [rewrite /k'; lra | field; lra].
have left u : 0 < u -> u < 1 -> 0 < k' u.
  move=> u0 u1; have iu := Rinv_0_lt_compat u u0; have := ln_le_sub1 iu; rewrite ln_Rinv // => l.
  have gt : 0 < / u - 1 by have := Rinv_lt_contravar u 1 ltac:(lra) u1; rewrite Rinv_1; lra.
  have := Rmult_lt_0_compat (c - 1) _ ltac:(lra) gt; rewrite /k' /Rdiv; lra.
have neg : k t < 0.
  rewrite -k1; case: (Rtotal_order t 1) => [lt|[//|gt]].
    have [||z [hz e]] := @MVT_gen k t ((t + 1) / 2) k'.
    - by move=> u; rewrite Rmin_left ?Rmax_right; try lra; move=> hu; apply: dk; lra.
    - move=> u; rewrite Rmin_left ?Rmax_right; try lra; move=> hu.
      by apply/continuity_pt_filterlim/ex_derive_continuous; eexists; apply: dk; lra.
    rewrite Rmin_left ?Rmax_right in hz; try lra.
    have := Rmult_lt_0_compat _ ((t + 1) / 2 - t) (left z ltac:(lra) ltac:(lra)) ltac:(lra); rewrite -e => h.
    have : k ((t + 1) / 2) <= k 1.
      apply: (@nondecreasing_between k k') => [u hu|u hu|]; [by apply: dk; lra | | by lra].
      case: (Req_dec u 1) => [->|n]; first by rewrite /k' ln_1; lra.
      by apply/Rlt_le/left; lra.
    by lra.
  have [||z [hz e]] := @MVT_gen k ((t + 1) / 2) t k'.
  - by move=> u; rewrite Rmin_left ?Rmax_right; try lra; move=> hu; apply: dk; lra.
  - move=> u; rewrite Rmin_left ?Rmax_right; try lra; move=> hu.
    by apply/continuity_pt_filterlim/ex_derive_continuous; eexists; apply: dk; lra.
  rewrite Rmin_left ?Rmax_right in hz; try lra.
  have := Rmult_lt_0_compat (- k' z) (t - (t + 1) / 2) ltac:(have := right z ltac:(lra) ltac:(lra);
    lra) ltac:(lra).
  have : - k 1 <= - k ((t + 1) / 2).
    apply: (@nondecreasing_between (fun u => - k u) (fun u => - k' u)) => [u hu|u hu|]; last by lra.
      by apply: is_derive_opp; apply: dk; lra.
    case: (Req_dec u 1) => [->|n]; first by rewrite /k' ln_1; lra.
    by have := right u ltac:(lra) ltac:(lra); lra.
  by lra.
have l1 : ln (x / rho) = ln t + ln (a / rho).
  by rewrite -ln_mult //; [congr ln; rewrite /t; field; lra | apply: Rdiv_lt_0_compat; lra].
have := Rmult_lt_0_compat a (- k t) ltac:(lra) ltac:(lra).
by rewrite l1 -/c /k xE rE; lra.
Qed.

(** No interior local maximum of the objective has two responses below ref: near any policy that has
    two, moving mass between them raises it. *)
Theorem k3_in_reward_local_max p ref r beta (i j : Y) delta : law p -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta -> i != j -> p i < ref i -> p j < ref j -> 0 < delta ->
  exists q, law q /\ (forall y, 0 < q y) /\ (forall y, Rabs (q y - p y) < delta) /\
  k3_objective p ref r beta < k3_objective q ref r beta.
Proof.
move=> lp p0 r0 b0 ij pi pj d0.
set m := Rmin (Rmin (p i) (p j)) (Rmin (Rmin (ref i - p i) (ref j - p j)) delta).
have m0 : 0 < m by rewrite /m; repeat apply: Rmin_glb_lt; try exact: p0; lra.
have [m1 [m2 [m3 [m4 m5]]]] : m <= p i /\ m <= p j /\ m <= ref i - p i /\ m <= ref j - p j /\ m <= delta.
  rewrite /m; have a := Rmin_l (Rmin (p i) (p j)) (Rmin (Rmin (ref i - p i) (ref j - p j)) delta).
  have b := Rmin_r (Rmin (p i) (p j)) (Rmin (Rmin (ref i - p i) (ref j - p j)) delta).
  have c := Rmin_l (Rmin (ref i - p i) (ref j - p j)) delta.
  have d := Rmin_r (Rmin (ref i - p i) (ref j - p j)) delta.
  have := Rmin_l (p i) (p j); have := Rmin_r (p i) (p j).
  have := Rmin_l (ref i - p i) (ref j - p j); have := Rmin_r (ref i - p i) (ref j - p j).
  by lra.
set t := m / 2.
pose q (u : R) y := if y == i then p i + u else if y == j then p j - u else p y.
pose w (y : Y) (x : R) := x * r y - beta * ((x + ref y) * ln (x / ref y)).
have objE x : law x -> (forall y, 0 < x y) -> k3_objective x ref r beta = \sum_(y : Y) w y (x y).
  move=> lx x0; rewrite /k3_objective /KL /E !collect; apply: sum_ext => y.
  by rewrite /w (ln_quotient (x0 y) (r0 y)) (ln_quotient (r0 y) (x0 y)); ring.
have sumE (h : Y -> R -> R) u : \sum_(y : Y) h y (q u y) - \sum_(y : Y) h y (p y) =
    (h i (p i + u) - h i (p i)) + (h j (p j - u) - h j (p j)).
  rewrite -[X in _ = X + _](@sum_single Y i) -[X in _ = _ + X](@sum_single Y j) !collect.
  apply: sum_ext => y; rewrite /q; case: (eqVneq y i) => [->|_]; first by rewrite (negbTE ij); ring.
  by case: (eqVneq y j) => [->|_]; ring.
have full u : - t <= u <= t -> law (q u) /\ forall y, 0 < q u y.
  move=> hu; have pos y : 0 < q u y.
    by rewrite /q; case: (y == i); [|case: (y == j)]; rewrite /t in hu; move: (p0 y); lra.
  split=> //; split=> [y|]; first exact/Rlt_le.
  by have := sumE (fun _ x => x) u; rewrite (proj2 lp) -/(sum (q u)); lra.
have near u : - t <= u <= t -> forall y, Rabs (q u y - p y) < delta.
  move=> hu y; rewrite /q; apply: Rabs_def1; case: (eqVneq y i) => [->|_]; try case: (eqVneq y j) => [->|_];
    rewrite /t in hu; lra.
have dip y u : (y = i \/ y = j) -> (u = t \/ u = - t) ->
    w y (p y) + (r y - beta * (ln (p y / ref y) + 1 + ref y / p y)) * u < w y (p y + u).
  move=> hy hu; have t0 : 0 < t by rewrite /t; lra.
  have rng : 0 < p y < ref y /\ 0 < p y + u < ref y.
    by case: hy => ->; case: hu => ->; rewrite /t; move: (p0 i) (p0 j); lra.
  have n : p y + u <> p y by case: hu => ->; lra.
  have := Rmult_lt_compat_l beta _ _ b0 (k3_penalty_concave (proj1 rng) (proj2 rng) n).
  by rewrite /w; lra.
have ht : - t <= t <= t by rewrite /t; lra.
have hnt : - t <= - t <= t by rewrite /t; lra.
have up : 2 * (\sum_(y : Y) w y (p y)) < (\sum_(y : Y) w y (q t y)) + (\sum_(y : Y) w y (q (- t) y)).
  have e1 := sumE w t; have e2 := sumE w (- t).
  have a1 := @dip i t (or_introl erefl) (or_introl erefl).
  have a2 := @dip i (- t) (or_introl erefl) (or_intror erefl).
  have a3 := @dip j t (or_intror erefl) (or_introl erefl).
  have a4 := @dip j (- t) (or_intror erefl) (or_intror erefl).
  rewrite (_ : p j - - t = p j + t) in e2; last by ring.
  by rewrite /Rminus in e1 e2; lra.
have [l1 q1] := full t ht; have [l2 q2] := full (- t) hnt.
rewrite -!objE // in up.
case: (Rlt_le_dec (k3_objective p ref r beta) (k3_objective (q t) ref r beta)) => h.
  by exists (q t); split=> //; split=> //; split=> //; exact: near.
by exists (q (- t)); split=> //; split=> //; split; [exact: near | lra].
Qed.

(** T2. At equal reward the tilt pays more than the k3-in-loss optimum iff r has three levels. *)
Theorem tilt_pays_more_iff d r beta beta' mu : law d -> (forall y, 0 < d y) -> 0 < beta -> 0 < beta' ->
  (forall y, r y < mu) -> sum (forward_optimum d r beta mu) = 1 ->
  E (tilt d r beta') r = E (forward_optimum d r beta mu) r ->
  KL d (forward_optimum d r beta mu) < KL d (tilt d r beta') <-> exists y1 y2 y3, r y1 < r y2 < r y3.
Proof.
move=> ld d0 b0 b0' rm s1 J; have lt : law (tilt d r beta') by exact: gibbs_law.
have t0 y : 0 < tilt d r beta' y by exact: gibbs_gt0.
have dt : d ≪ tilt d r beta' by exact: full_dominates.
have [lo o0] := forward_optimum_law d0 b0 rm s1.
have [le only] := forward_optimum_on_frontier lt ld dt d0 b0 rm s1 (Req_le _ _ (esym J)).
split=> [more|[y1 [y2 [y3 [l12 l23]]]]].
  apply: Classical_Prop.NNPP => none; have [y0 _] := law_support ld.
  have [top ht] := exists_max r y0; have [bot hb] := exists_max (fun y => - r y) y0.
  have two y : r y = r bot \/ r y = r top.
    case: (Rtotal_order (r y) (r top)) => [h|[->|h]]; [|by right|by have := ht y; lra].
    case: (Rtotal_order (r bot) (r y)) => [h'|[<-|h']]; [|by left|by have := hb y; lra].
    by case: none; exists bot, y, top.
  pose w := r top - r bot; have w0 : 0 <= w by rewrite /w; move: (hb top); lra.
  case: w0 => [w0|w0]; last first.
    have const y z : r y = r z by case: (two y); case: (two z); rewrite /w in w0; lra.
    suff tE y : tilt d r beta' y = d y.
      rewrite (KL_ext (fun y => erefl (d y)) tE) KL_refl // in more.
      by have := KL_ge0 ld lo (full_dominates _ o0); lra.
    by move: y; apply/gibbs_id_iff => // y z _ _; rewrite (const y z).
  pose A y := if Req_EM_T (r y) (r top) then true else false.
  have rE y : r y = r bot + w * hit A y.
    rewrite /hit /A; case: Req_EM_T => [e|n] /=; first by rewrite e /w; ring.
    by case: (two y) => // ->; ring.
  have tE y : tilt d r beta' y = tilt d (hit A) (beta' / w) y.
    move: y; rewrite /tilt; apply/gibbs_eq_iff => // y z _ _.
    by rewrite (rE y) (rE z); field; lra.
  have suc x : law x -> success A x = (E x r - r bot) / w.
    move=> lx; rewrite (E_ext _ rE) E_plus E_const // E_scal -/(success A x); field; lra.
  have sd : 0 < success A d < 1.
    split; first by apply: (sum_gt0 (y := top)) => [z|]; [apply: Rmult_le_pos;
      [exact/Rlt_le | case: (hit_01 A z); lra] |];
      rewrite /hit /A; case: Req_EM_T => //= _; move: (d0 top); lra.
    suff: 0 < 1 - success A d by lra.
    rewrite failure_sum //; apply: (sum_gt0 (y := bot)) => [z|]; first by case: (A z); [lra | exact/Rlt_le].
    by rewrite /A; case: Req_EM_T => [e|n] /=; [rewrite /w e in w0; lra | exact: d0].
  have bw : 0 < beta' / w by exact: Rdiv_lt_0_compat.
  have [cE least] := verifiable_cost ld sd bw.
  have lt' : law (tilt d (hit A) (beta' / w)) by exact: gibbs_law.
  have := least _ lo (full_dominates _ o0).
  rewrite -cE (proj2 (coupling_gap _ _ ld)) -(KL_ext (fun y => erefl (d y)) tE) => h.
  suff: KL d (tilt d r beta') <= KL d (forward_optimum d r beta mu) by lra.
  apply: h; rewrite (suc _ lo) (suc _ lt') -(E_law_ext _ tE) J; lra.
case: le => // e; have same := only (esym e).
have line y : r y / beta' + ln (mu - r y) = ln beta + ln (Z d r beta').
  have g : 0 < mu - r y by move: (rm y); lra.
  have := same y; rewrite /tilt /forward_optimum => /(f_equal ln); rewrite ln_gibbs //.
  by rewrite ln_quotient ?ln_mult //; [rewrite -/(Z d r beta'); lra | exact: Rmult_lt_0_compat].
have g2 : 0 < mu - r y2 by move: (rm y2); lra.
have tan y : r y <> r y2 -> ln (mu - r y) < ln (mu - r y2) - (r y - r y2) / (mu - r y2).
  move=> n; have g : 0 < mu - r y by move: (rm y); lra.
  have q0 : 0 < (mu - r y) / (mu - r y2) by exact: Rdiv_lt_0_compat.
  have : ln ((mu - r y) / (mu - r y2)) < (mu - r y) / (mu - r y2) - 1.
    case: (ln_le_sub1 q0) => // /(ln_eq_sub1 q0) e1; case: n.
    by have : (mu - r y) / (mu - r y2) * (mu - r y2) = mu - r y by [field; lra]; rewrite e1; lra.
  rewrite ln_quotient // (_ : (mu - r y) / (mu - r y2) - 1 = - ((r y - r y2) / (mu - r y2)));
    [lra | field; lra].
have h1 := tan y1 ltac:(lra); have h3 := tan y3 ltac:(lra).
have := line y1; have := line y2; have := line y3.
set k := / beta' - / (mu - r y2) => e3 e2 e1.
have k1 : 0 < k * (r y1 - r y2) by rewrite /k; rewrite /Rdiv in h1 e1 e2; lra.
have k3 : 0 < k * (r y3 - r y2) by rewrite /k; rewrite /Rdiv in h3 e3 e2; lra.
case: (Rle_lt_dec 0 k) => h.
  by have := Rmult_le_pos k (r y2 - r y1) h ltac:(lra); lra.
by have := Rmult_lt_0_compat (- k) (r y3 - r y2) ltac:(lra) ltac:(lra); lra.
Qed.

End ForwardLeash.

(** The smallest world: ref = (1/2, 1/2), r = 0, p = (1 - 2^-k, 2^-k). *)
Theorem k3_in_reward_two_responses beta k : 0 < beta -> (0 < k)%nat ->
  let ref := coin (1 / 2) in let p := coin (1 - (1 / 2) ^ k) in
  beta * (INR k / 2 - 2) * ln 2 <= @k3_objective bool_finType p ref (fun _ => 0) beta.
Proof.
move=> b0 k0 ref; set h := (1 / 2) ^ k => p.
have h0 : 0 < h by apply: pow_lt; lra.
have h1 : h < 1 by apply: (proj2 (pow_lt_1_compat (1 / 2) k _ (ltP k0))); lra.
have lr : @law bool_finType ref by apply: coin_law; lra.
have lp : @law bool_finType p by apply: coin_law; lra.
have half : ln (1 / 2) = - ln 2 by rewrite /Rdiv Rmult_1_l ln_Rinv //; lra.
have kl1 : @KL bool_finType p ref <= ln 2.
  have := @KL_le_ln_min _ p ref (1 / 2) lp lr ltac:(lra).
  by rewrite half Ropp_involutive; apply; case; rewrite /ref /=; lra.
have lnh : ln h = - (INR k * ln 2) by rewrite /h ln_pow ?half; lra.
have kl2 : @KL bool_finType ref p = (INR k / 2 - 1) * ln 2 - ln (1 - h) / 2.
  rewrite /KL sum_bool /ref /p /= !ln_quotient; try lra.
  have -> : 1 - (1 - h) = h by ring.
  have -> : 1 - 1 / 2 = 1 / 2 by field.
  by rewrite lnh half ln_1; field.
have l1 : ln (1 - h) < 0 by rewrite -ln_1; apply: ln_increasing; lra.
rewrite /k3_objective E_const // kl2.
have := Rmult_le_compat_l beta _ _ (Rlt_le _ _ b0) kl1.
by have := Rmult_le_pos beta (- ln (1 - h)) ltac:(lra) ltac:(lra); lra.
Qed.

(** Two responses, ref = (a, 1-a), r = (1, 0), p = (x, 1-x): the objective with k3 in the reward has the
    derivative O', and O' > 0 on all of [a, 1) (the flow from ref runs away) iff a >= 1/2 or
    beta (log((1-a)/a) - 2 (1-2a)) < 1; otherwise O' has a zero where the flow stops. *)
Theorem k3_in_reward_threshold a beta : 0 < a < 1 -> 0 < beta ->
  let O x := @k3_objective bool_finType (coin x) (coin a) (fun b => if b then 1 else 0) beta in
  let O' x := 1 - beta * (ln (x / a) - ln ((1 - x) / (1 - a)) + a / x - (1 - a) / (1 - x)) in
  let runs := 1 / 2 <= a \/ beta * (ln ((1 - a) / a) - 2 * (1 - 2 * a)) < 1 in
  (forall x, 0 < x < 1 -> is_derive O x (O' x)) /\
  (runs -> forall x, a <= x < 1 -> 0 < O' x) /\
  (~ runs -> exists x, a < x < 1 /\ O' x = 0).
Proof.
move=> a01 b0 O O' runs.
pose k x := ln (x / a) - ln ((1 - x) / (1 - a)) + a / x - (1 - a) / (1 - x).
pose k' x := (x - a) * (1 - 2 * x) / (x ^ 2 * (1 - x) ^ 2).
have den x : 0 < x < 1 -> 0 < x ^ 2 * (1 - x) ^ 2.
  by move=> h; apply: Rmult_lt_0_compat; apply: pow_lt; lra.
have dk x : 0 < x < 1 -> is_derive k x (k' x).
  move=> h; have p1 : 0 < x / a by apply: Rdiv_lt_0_compat; lra.
  have p2 : 0 < (1 - x) / (1 - a) by apply: Rdiv_lt_0_compat; lra.
  rewrite /k /k'; auto_derive; first by rewrite /Rdiv /Rminus in p1 p2 *; repeat split; lra.
  by field; lra.
have ka : k a = 0.
  by rewrite /k /Rdiv !Rinv_r ?ln_1; lra.
have half : k (1 / 2) = ln ((1 - a) / a) - 2 * (1 - 2 * a).
  rewrite /k (_ : 1 - 1 / 2 = 1 / 2); last by field.
  rewrite !ln_quotient; try lra; field.
have up x y : a <= x -> x <= y -> y <= 1 / 2 -> k x <= k y.
  move=> h1 h2 h3; apply: (@nondecreasing_between k k') => [z hz|z hz|//]; first by apply: dk; lra.
  by apply: Rle_mult_inv_pos; [apply: Rmult_le_pos; lra | apply: den; lra].
have down x y : a <= x -> 1 / 2 <= x -> x <= y -> y < 1 -> k y <= k x.
  move=> h1 h2 h3 h4; suff: - k x <= - k y by lra.
  apply: (@nondecreasing_between (fun x => - k x) (fun x => - k' x)) => [z hz|z hz|//].
    by apply: is_derive_opp; apply: dk; lra.
  rewrite /k' (_ : - _ = (z - a) * (2 * z - 1) / (z ^ 2 * (1 - z) ^ 2)); last by field; lra.
  by apply: Rle_mult_inv_pos; [apply: Rmult_le_pos; lra | apply: den; lra].
have eO u : 0 < u < 1 ->
    O u = u - beta * ((u + a) * (ln u - ln a) + (2 - u - a) * (ln (1 - u) - ln (1 - a))).
  by move=> u01; rewrite /O /k3_objective E_coin /KL !sum_bool /= !ln_quotient; try lra; ring.
split=> [x hx|].
  apply: (is_derive_ext_loc (fun x => x - beta * ((x + a) * (ln x - ln a) +
    (2 - x - a) * (ln (1 - x) - ln (1 - a))))).
    apply: (locally_interval _ x 0 1); try by case: hx.
    by move=> u u0 u1; symmetry; apply: eO; split.
  auto_derive; first by lra.
  by rewrite /O' !ln_quotient; try lra; rewrite /Rminus; field; lra.
split=> [run x hx|stop].
  suff: beta * k x < 1 by rewrite /O' -/(k x); lra.
  case: run => [ha|small].
    have := down a x ltac:(lra) ha ltac:(lra) ltac:(lra); rewrite ka => kx.
    by have := Rmult_le_pos beta (- k x) ltac:(lra) ltac:(lra); lra.
  case: (Rle_lt_dec (1 / 2) a) => ha.
    have := down a x ltac:(lra) ha ltac:(lra) ltac:(lra); rewrite ka => kx.
    by have := Rmult_le_pos beta (- k x) ltac:(lra) ltac:(lra); lra.
  have kx : k x <= k (1 / 2).
    by case: (Rle_lt_dec x (1 / 2)) => h; [apply: up | apply: down]; lra.
  by have := Rmult_le_compat_l beta _ _ ltac:(lra) kx; rewrite half; lra.
have ha : a < 1 / 2 by apply: Rnot_le_lt => h; apply: stop; left.
have big : 1 <= beta * k (1 / 2) by rewrite half; apply: Rnot_lt_le => h; apply: stop; right.
have cont x : a <= x <= 1 / 2 -> continuity_pt (fun x => 1 - beta * k x) x.
  move=> hx; apply/continuity_pt_filterlim; apply: (ex_derive_continuous (fun x => 1 - beta * k x)).
  have ex : ex_derive k x by eexists; apply: dk; lra.
  by auto_derive.
have c1 : 0 <= 1 - beta * k a by rewrite ka; lra. have c2 : 1 - beta * k (1 / 2) <= 0 by lra.
have [x [hx z]] := zero_between cont (Rlt_le _ _ ha) c1 c2.
exists x; split=> //; split; last by lra.
by case: hx => -[//|e] _; rewrite -e ka in z; lra.
Qed.
