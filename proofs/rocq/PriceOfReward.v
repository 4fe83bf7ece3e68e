(** * S5: the price of reward, exactly

    The least KL(d‖p) over policies p with J(p) >= c is K_inf, the largest value of
    E_d log(1 - l w) over l in [0, 1], with w = (r - c)/(M - c) <= 1 and M = max r. *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Foundations Concentration SftThenRl.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

Section PriceOfReward.
Variable Y : finType.
Variables (d r : Y -> R) (c M : R).
Hypotheses (ld : law d) (rM : forall y, r y <= M) (cM : c < M).

Let w y := (r y - c) / (M - c).

Lemma w_le1 y : w y <= 1.
Proof. by apply: (Rmult_le_reg_r (M - c)); [lra | rewrite /w; field_simplify; move: (rM y); lra]. Qed.

Lemma w_eq1 y : w y = 1 -> r y = M.
Proof.
move=> e; have : w y * (M - c) = r y - c by rewrite /w; field; lra.
by rewrite e; lra.
Qed.

(** The denominator 1 - l w is positive for l < 1, and for l = 1 outside the largest reward. *)
Lemma denominator_gt0 l y : 0 <= l <= 1 -> (l < 1 \/ r y <> M) -> 0 < 1 - l * w y.
Proof.
move=> l01 h; have w1 := w_le1 y; have le := Rmult_le_compat_l l _ _ (proj1 l01) w1.
case: (Rlt_le_dec l 1) => l1; first by lra.
have -> : l = 1 by lra.
case: h => [|neq]; first by lra.
suff: w y <> 1 by lra.
by move/w_eq1.
Qed.

Lemma dual_term l y : 1 - l * (r y - c) / (M - c) = 1 - l * w y.
Proof. by rewrite /w /Rdiv; ring. Qed.

Lemma E_w p : law p -> E p w = (E p r - c) / (M - c).
Proof. by move=> lp; rewrite /w E_div E_minus E_const. Qed.

(** Weak duality. *)
Theorem weak_duality p l : law p -> d ≪ p -> c <= E p r -> 0 <= l <= 1 ->
  (l = 1 -> forall y, r y = M -> d y = 0) ->
  E d (fun y => ln (1 - l * (r y - c) / (M - c))) <= KL d p.
Proof.
move=> lp dp cp l01 l1.
have term y : d y - p y * (1 - l * w y) <=
              d y * ln (d y / p y) - d y * ln (1 - l * (r y - c) / (M - c)).
  rewrite dual_term; case: (law_case y ld) => [->|dy].
    have le := Rmult_le_compat_l l _ _ (proj1 l01) (w_le1 y).
    by have := Rmult_le_pos (p y) (1 - l * w y) (proj1 lp y) ltac:(lra); lra.
  have py := dominated_pos lp dp dy.
  have w0 : 0 < 1 - l * w y.
    apply: denominator_gt0 => //; case: (Rlt_le_dec l 1) => h; [by left | right => e].
    by move: (l1 ltac:(lra) y e); lra.
  have b0 := Rmult_lt_0_compat _ _ py w0.
  have := @gibbs_pointwise (d y) (p y * (1 - l * w y)) ltac:(lra) ltac:(lra) ltac:(lra).
  by rewrite (ln_quotient dy b0) (ln_mult _ _ py w0) (ln_quotient dy py); lra.
have := sum_le term; rewrite -sum_minus -[X in _ <= X]sum_minus (proj2 ld).
have e : \sum_(y : Y) (p y * (1 - l * w y)) = 1 - l * E p w.
  by rewrite -[in RHS](proj2 lp) /E !collect; apply: sum_ext => y; ring.
have pw : 0 <= E p w by rewrite E_w //; apply: Rle_mult_inv_pos; lra.
have := Rmult_le_pos _ _ (proj1 l01) pw.
by rewrite e /KL /E; lra.
Qed.

(** Minus the derivative of the dual. *)
Let psi l := \sum_(y : Y) (d y * (w y / (1 - l * w y))).

Lemma psi_0 : psi 0 = (E d r - c) / (M - c).
Proof. by rewrite -E_w //; apply: sum_ext => y; field. Qed.

Lemma psi_continuous l : 0 <= l <= 1 -> (l < 1 \/ forall y, r y = M -> d y = 0) -> continuity_pt psi l.
Proof.
move=> l01 h; apply: (continuity_sum (f := fun y l => d y * (w y / (1 - l * w y)))) => y.
case: (law_case y ld) => [->|dy].
  apply: (continuity_pt_ext (fun _ => 0)) => [t|]; first by ring.
  by apply: continuity_pt_const.
have w0 : 0 < 1 - l * w y.
  by apply: denominator_gt0 => //; case: h => [|h]; [left | right => /h; lra].
apply/continuity_pt_filterlim; apply: ex_derive_continuous.
by auto_derive; lra.
Qed.

(** Where psi vanishes, p = d/(1 - l w) is a law with reward exactly c. *)
Lemma interior_optimum l : 0 <= l < 1 -> psi l = 0 ->
  let p y := d y / (1 - l * (r y - c) / (M - c)) in law p /\ d ≪ p /\ E p r = c.
Proof.
move=> l01 z p.
have w0 y : 0 < 1 - l * w y by apply: denominator_gt0; [lra | left; lra].
have pE y : p y = d y / (1 - l * w y) by rewrite /p dual_term.
have lp : law p.
  split=> [y|]; first by rewrite pE; apply: Rle_mult_inv_pos (w0 y); apply ld.
  rewrite -(proj2 ld) -[RHS]Rplus_0_r -(Rmult_0_r l) -z /psi !collect; apply: sum_ext => y.
  by rewrite pE; field; move: (w0 y); lra.
split=> //; split=> [y|].
  rewrite pE => e; have := w0 y => h.
  have -> : d y = d y / (1 - l * w y) * (1 - l * w y) by field; lra.
  by rewrite e; ring.
have : E p w = 0 by rewrite -z; apply: sum_ext => y; rewrite pE; field; move: (w0 y); lra.
rewrite E_w // => e; have : (E p r - c) / (M - c) * (M - c) = E p r - c by field; lra.
by rewrite e; lra.
Qed.

Lemma psi_root b : E d r < c -> 0 < b <= 1 -> (b < 1 \/ forall y, r y = M -> d y = 0) -> 0 < psi b ->
  exists l, 0 <= l < 1 /\ psi l = 0.
Proof.
move=> dc b01 h pb.
have p0 : psi 0 < 0.
  rewrite psi_0; have i := Rinv_0_lt_compat (M - c) ltac:(lra).
  by have := Rmult_lt_compat_r _ _ _ i dc; rewrite /Rdiv Rmult_minus_distr_r; lra.
have cont a : 0 <= a <= b -> continuity_pt psi a.
  by move=> ha; apply: psi_continuous; [lra | case: h => h; [left; lra | right]].
have [l [hl z]] := Ranalysis5.IVT_interv psi 0 b cont (proj1 b01) p0 pb.
exists l; split=> //; split; first by lra.
case: (Rlt_le_dec l 1) => // l1; have e : l = b by lra.
by rewrite e in z; lra.
Qed.

(** If the data reach the largest reward, psi becomes positive before l = 1. *)
Lemma psi_positive y : r y = M -> 0 < d y -> exists b, 0 < b < 1 /\ 0 < psi b.
Proof.
move=> e dy; set W := \sum_(z : Y) (d z * Rabs (w z)).
have wy : w y = 1 by rewrite /w e; field; lra.
have dW : d y <= W.
  have := @term_le_sum _ (fun z => d z * Rabs (w z)) y.
  rewrite wy Rabs_R1 Rmult_1_r; apply=> z; apply: Rmult_le_pos (Rabs_pos _); apply ld.
set b := 1 - d y / (W + 1).
have bE : (1 - b) * (W + 1) = d y by rewrite /b; field; lra.
have q0 : 0 < d y / (W + 1) by apply: Rdiv_lt_0_compat; lra.
have q1 : d y / (W + 1) < 1 by apply: (Rmult_lt_reg_r (W + 1));
  [lra | rewrite /Rdiv Rmult_assoc Rinv_l; lra].
have b01 : 0 < b < 1 by rewrite /b; lra.
exists b; split=> //.
have low z : - (d z * Rabs (w z)) <= d z * (w z / (1 - b * w z)).
  have w0 : 0 < 1 - b * w z by apply: denominator_gt0; [lra | left; lra].
  rewrite Ropp_mult_distr_r; apply: Rmult_le_compat_l; first by apply ld.
  apply: (Rmult_le_reg_r (1 - b * w z)) => //; rewrite /Rdiv Rmult_assoc Rinv_l; last by lra.
  rewrite Rmult_1_r; case: (Rle_lt_dec 0 (w z)) => s.
    by rewrite Rabs_pos_eq //; have := Rmult_le_pos _ _ s (Rlt_le _ _ w0); lra.
  rewrite Rabs_left // Ropp_involutive.
  by have := Rmult_le_pos b (w z * w z) ltac:(lra) (Rle_0_sqr (w z)); lra.
have gap := @term_le_sum _ (fun z => d z * (w z / (1 - b * w z)) - - (d z * Rabs (w z))) y.
have := gap (fun z => ltac:(move: (low z); lra)).
rewrite -sum_minus -sum_opp -/(psi b) -/W wy Rabs_R1 Rmult_1_r.
rewrite (_ : d y * (1 / (1 - b)) = W + 1); first by lra.
by rewrite -bE; field; lra.
Qed.

Lemma sum_single (y0 : Y) a : \sum_(y : Y) (if y == y0 then a else 0) = a.
Proof. by rewrite /sum -big_mkcond big_pred1_eq. Qed.

(** Strong duality: an optimal policy, with its certificate l. *)
Theorem strong_duality y0 : r y0 = M -> E d r < c ->
  exists l p, 0 <= l <= 1 /\ (l = 1 -> forall y, r y = M -> d y = 0) /\
  law p /\ d ≪ p /\ E p r = c /\
  (forall y, l < 1 \/ r y <> M -> p y = d y / (1 - l * (r y - c) / (M - c))) /\
  KL d p = E d (fun y => ln (1 - l * (r y - c) / (M - c))).
Proof.
move=> r0 dc.
have interior : (exists l, 0 <= l < 1 /\ psi l = 0) -> exists l p,
    0 <= l <= 1 /\ (l = 1 -> forall y, r y = M -> d y = 0) /\ law p /\ d ≪ p /\ E p r = c /\
    (forall y, l < 1 \/ r y <> M -> p y = d y / (1 - l * (r y - c) / (M - c))) /\
    KL d p = E d (fun y => ln (1 - l * (r y - c) / (M - c))).
  move=> [l [l01 z]]; have [lp [dp pc]] := interior_optimum l01 z.
  exists l, (fun y => d y / (1 - l * (r y - c) / (M - c))).
  split; first by lra. split; first by lra. do 3 split=> //. split=> //.
  exact: (price_of_reward_attained ld lp rM cM l01).
case: (Classical_Prop.classic (exists y, r y = M /\ 0 < d y)) => [[y [e dy]]|none].
  have [b [b01 pb]] := psi_positive e dy; apply: interior.
  by apply: (@psi_root b) => //; [lra | left; lra].
have zero y : r y = M -> d y = 0.
  by move=> e; case: (law_case y ld) => // dy; case: none; exists y.
case: (Rle_lt_dec (psi 1) 0) => p1; last first.
  by apply: interior; apply: (@psi_root 1) => //; [lra | right].
set a := - psi 1; set p := fun y => d y / (1 - 1 * (r y - c) / (M - c)) + (if y == y0 then a else 0).
have w0 y : 0 < d y -> 0 < 1 - 1 * w y.
  by move=> dy; apply: denominator_gt0; [lra | right => /zero; lra].
have dE y : d y / (1 - 1 * (r y - c) / (M - c)) = d y + d y * (w y / (1 - 1 * w y)).
  rewrite dual_term; case: (law_case y ld) => [->|dy]; first by rewrite /Rdiv; ring.
  by field; move: (w0 y dy); lra.
have nonneg y : 0 <= d y / (1 - 1 * (r y - c) / (M - c)).
  rewrite dual_term; case: (law_case y ld) => [->|dy]; first by rewrite /Rdiv; lra.
  by apply: Rle_mult_inv_pos (w0 y dy); lra.
have lp : law p.
  split=> [y|]; first by rewrite /p /a; move: (nonneg y); case: (y == y0); lra.
  rewrite /p -sum_plus sum_single (sum_ext dE) -sum_plus (proj2 ld) -/(psi 1) /a; ring.
have dy0 := zero y0 r0.
have pE y : r y <> M -> p y = d y / (1 - 1 * (r y - c) / (M - c)).
  by move=> neq; rewrite /p; case: (eqVneq y y0) => [e|_]; [case: neq; rewrite e | ring].
exists 1, p; split; first by lra. split=> //. split=> //. split; [|split; [|split]] => [y e||y|].
- have [//|dy] := law_case y ld; have neq : r y <> M by move/zero; lra.
  rewrite pE // dual_term in e; have := Rdiv_lt_0_compat _ _ dy (w0 y dy); lra.
- have : E p w = 0.
    have -> : E p w = psi 1 + \sum_(y : Y) (if y == y0 then a else 0).
      rewrite /psi /E !collect; apply: sum_ext => y; rewrite /p dE.
      case: (eqVneq y y0) => [->|_].
        by rewrite dy0 (_ : w y0 = 1); [ring | rewrite /w r0; field; lra].
      case: (law_case y ld) => [->|dy]; first by ring.
      by field; move: (w0 y dy); lra.
    by rewrite sum_single /a; ring.
  rewrite E_w // => e; have : (E p r - c) / (M - c) * (M - c) = E p r - c by field; lra.
  by rewrite e; lra.
- by case=> [|neq]; [lra | exact: pE].
- apply: sum_ext => y; case: (law_case y ld) => [->|dy]; first by ring.
  have neq : r y <> M by move/zero; lra.
  rewrite pE // dual_term; congr (_ * ln _); field.
  by move: (w0 y dy); lra.
Qed.

(** So the minimum of KL(d‖p) is attained and equals the maximum of the dual. *)
Theorem price_of_reward_exact y0 : r y0 = M -> E d r < c ->
  exists l p, 0 <= l <= 1 /\ (l = 1 -> forall y, r y = M -> d y = 0) /\
  law p /\ d ≪ p /\ E p r = c /\
  (forall y, l < 1 \/ r y <> M -> p y = d y / (1 - l * (r y - c) / (M - c))) /\
  KL d p = E d (fun y => ln (1 - l * (r y - c) / (M - c))) /\
  (forall p', law p' -> d ≪ p' -> c <= E p' r -> KL d p <= KL d p') /\
  (forall l', 0 <= l' <= 1 -> (l' = 1 -> forall y, r y = M -> d y = 0) ->
   E d (fun y => ln (1 - l' * (r y - c) / (M - c))) <= KL d p).
Proof.
move=> r0 dc; have [l [p [l01 [l1 [lp [dp [pc [pE e]]]]]]]] := strong_duality r0 dc.
exists l, p; do 7 (split=> //); split=> [p' lp' dp' cp'|l' l01' l1'].
  by rewrite e; exact: weak_duality.
by apply: weak_duality => //; lra.
Qed.

(** The Bernoulli bound: the dual at the l that is best for rewards with two levels. *)
Theorem price_of_reward_bernoulli p m : law p -> d ≪ p -> (forall y, m <= r y) ->
  m < E d r -> E d r <= c -> c <= E p r ->
  let a := (E d r - m) / (M - m) in
  let b := (c - m) / (M - m) in
  a * ln (a / b) + (1 - a) * ln ((1 - a) / (1 - b)) <= KL d p.
Proof.
move=> lp dp rm md dc cp a b.
have mM : 0 < M - m by lra.
have a0 : 0 < a by apply: Rdiv_lt_0_compat; lra.
have aE : a * (M - m) = E d r - m by rewrite /a; field; lra.
have bE : b * (M - m) = c - m by rewrite /b; field; lra.
have ab : a <= b by apply: (Rmult_le_reg_r (M - m)); lra.
have b1 : b < 1 by apply: (Rmult_lt_reg_r (M - m)); lra.
have b0 : 0 < b by lra.
set A := (1 - a) / (1 - b); set B := a / b; set l := 1 - B.
have A0 : 0 < A by apply: Rdiv_lt_0_compat; lra.
have B0 : 0 < B by exact: Rdiv_lt_0_compat.
have B1 : B <= 1 by apply: (Rmult_le_reg_r b); [|rewrite /B /Rdiv Rmult_assoc Rinv_l]; lra.
apply: Rle_trans (@weak_duality p l lp dp cp ltac:(rewrite /l; lra) ltac:(rewrite /l; lra)).
set t := fun y => (r y - m) / (M - m).
have -> : a * ln B + (1 - a) * ln A = E d (fun y => ln A + (ln B - ln A) * t y).
  by rewrite E_plus E_const // E_scal /t E_div E_minus E_const // -/a; ring.
apply: E_le => // y.
have tE : t y * (M - m) = r y - m by rewrite /t; field; lra.
have t01 : 0 <= t y <= 1.
  by split; apply: (Rmult_le_reg_r (M - m)) => //; move: (rM y) (rm y); lra.
have affine : 1 - l * (r y - c) / (M - c) = (1 - t y) * A + t y * B.
  have -> : r y - c = (t y - b) * (M - m) by lra.
  have -> : M - c = (1 - b) * (M - m) by lra.
  by rewrite /l /A /B; field; lra.
have := exp_convex (ln A) (ln B) t01; rewrite !exp_ln // -affine => h.
have e0 := exp_pos ((1 - t y) * ln A + t y * ln B).
rewrite -(ln_exp (ln A + _)) (_ : ln A + (ln B - ln A) * t y = (1 - t y) * ln A + t y * ln B);
  last by ring.
by case: h => [/(ln_increasing _ _ e0)|->]; lra.
Qed.

End PriceOfReward.
