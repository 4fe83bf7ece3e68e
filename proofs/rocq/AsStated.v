(** * The forms that the catalogue states

    What the other files prove with a stronger hypothesis or a weaker conclusion than the catalogue has: P1 with
    the logarithm, S3 on the support of d, the existence of S6's early stop, S7 with the dual variable at its end,
    R4 for any law in place of the tilt, P4's thresholds, J1's closed form and multiplier, and S8. *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Foundations Concentration SftThenRl.
From NonDecoupling Require Import PriceOfReward RlThenSft Landscape.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

Section AsStated.
Variable Y : finType.
Implicit Types (p q d ref t joint : Y -> R) (r f g theta : Y -> R) (beta s m M c l eps lambda mu z T eta rho : R).

(** ** P1 in its log form *)

Theorem excess_below_log p d m : law p -> law d -> 0 < m -> (forall y, m <= p y) ->
  KL d p <= ln (1 + (\sum_(y : Y) (p y - d y) ^ 2) / m).
Proof.
move=> lp ld m0 mp; set S := \sum_(y : Y) _; set c := 1 + S / m.
have pos y : 0 < p y by move: (mp y); lra.
have S0 : 0 <= S by apply: sum_ge0 => y; exact: pow2_ge_0.
have c0 : 0 < c by move: (Rle_mult_inv_pos _ _ S0 m0); rewrite /c /Rdiv; lra.
have ratio : E d (fun y => d y / p y) <= c.
  have -> : c = \sum_(y : Y) (d y + (d y - p y) + (p y - d y) ^ 2 / m).
    rewrite -(sum_plus (fun y => d y + (d y - p y))) -(sum_plus d) (proj2 ld).
    by rewrite (sum_law_difference ld lp) -(sum_div (fun y => (p y - d y) ^ 2)) -/S /c; ring.
  apply: sum_le => y; have py := pos y.
  rewrite (_ : d y * (d y / p y) = d y + (d y - p y) + (p y - d y) ^ 2 / p y); last by field; lra.
  apply: Rplus_le_compat_l; apply: Rmult_le_compat_l; first exact: pow2_ge_0.
  by apply: Rinv_le_contravar (mp y).
apply: (Rle_trans _ (E d (fun y => ln c + (d y / p y / c - 1)))).
  apply: sum_le => y; case: (law_case y ld) => [->|dy]; first by apply: Req_le; ring.
  apply: Rmult_le_compat_l; first by lra.
  have u0 : 0 < d y / p y by exact: Rdiv_lt_0_compat.
  have := ln_le_sub1 (Rdiv_lt_0_compat _ _ u0 c0); rewrite ln_quotient //; lra.
rewrite E_plus E_const // E_minus E_const // E_div.
by have := Rmult_le_compat_r _ _ _ (Rlt_le _ _ (Rinv_0_lt_compat _ c0)) ratio; rewrite Rinv_r /Rdiv; lra.
Qed.

(** ** S3 on the support of d *)

Lemma E_on_support d f g : law d -> (forall y, 0 < d y -> f y = g y) -> E d f = E d g.
Proof.
by move=> ld fg; apply: sum_ext => y; case: (law_case y ld) => [->|dy]; [ring | rewrite fg].
Qed.

(** Any reward agrees on the support with one whose values all lie between those on the support. *)
Lemma reward_on_support d r beta m M : law d -> (forall y, 0 < d y -> m <= r y <= M) ->
  exists r', (forall y, m <= r' y <= M) /\ E d r' = E d r /\ Var d r' = Var d r /\
    Z d r' beta = Z d r beta.
Proof.
move=> ld mM; have [y0 d0] := law_support ld.
pose r' y := if Req_EM_T (d y) 0 then r y0 else r y; exists r'.
have on y : 0 < d y -> r' y = r y by rewrite /r'; case: (Req_EM_T (d y) 0) => [e|_] dy //; lra.
have eE : E d r' = E d r by exact: E_on_support.
split=> [y|].
  rewrite /r'; case: (Req_EM_T (d y) 0) => dy; first exact: mM.
  by apply: mM; case: (law_case y ld).
split=> //; split; apply: E_on_support => // y dy; last by rewrite on.
by rewrite eE on.
Qed.

Theorem coupling_two_point_on_support d r beta m M : law d -> 0 < beta ->
  (forall y, 0 < d y -> m <= r y <= M) -> m < E d r < M ->
  let v := (/ beta) ^ 2 * Var d r in
  let a := / beta * (E d r - m) in
  let b := / beta * (M - E d r) in
  ln ((a ^ 2 * exp (v / a) + v * exp (- a)) / (a ^ 2 + v)) <= CE d (tilt d r beta) - CE d d
  <= ln ((b ^ 2 * exp (- v / b) + v * exp b) / (b ^ 2 + v)).
Proof.
move=> ld b0 mM inside; have [r' [mM' [eE [eV eZ]]]] := reward_on_support beta ld mM.
rewrite (proj1 (coupling_gap r beta ld)) -eZ -eE -eV in inside *.
by rewrite -(proj1 (coupling_gap r' beta ld)); exact: coupling_two_point.
Qed.

Theorem coupling_hoeffding_on_support d r beta m M : law d -> 0 < beta ->
  (forall y, 0 < d y -> m <= r y <= M) ->
  CE d (tilt d r beta) - CE d d <= (M - m) ^ 2 / (8 * beta ^ 2).
Proof.
move=> ld b0 mM; have [r' [mM' [eE [_ eZ]]]] := reward_on_support beta ld mM.
rewrite (proj1 (coupling_gap r beta ld)) -eZ -eE -(proj1 (coupling_gap r' beta ld)).
exact: coupling_hoeffding.
Qed.

(** ** S6: the best early stop exists *)

Theorem early_stop_exists ref r c (y0 : Y) : law ref -> 0 < ref y0 -> E ref r < c < r y0 ->
  exists s, 0 < s /\ E (tilt_at ref r s) r = c.
Proof.
move=> lr r0 [lo hi]; set f := fun s => E (tilt_at ref r s) r.
have f0 : f 0 = E ref r by rewrite /f E_tilt_at_0.
have r1 : ln (ref y0) <= 0.
  rewrite -ln_1; have : ref y0 <= 1 by rewrite -(proj2 lr); apply: term_le_sum => y; apply lr.
  by case=> [lt|->]; [apply/Rlt_le/ln_increasing | lra].
set s := (1 - ln (ref y0)) / (r y0 - c).
have s0 : 0 < s by apply: Rdiv_lt_0_compat; lra.
have fs : c < f s.
  have lt : law (tilt_at ref r s) by exact: gibbs_law.
  have k0 := KL_ge0 lt lr (@gibbs_dominated _ ref _).
  have kE : KL (tilt_at ref r s) ref = s * f s - ln (E ref (fun y => exp (s * r y))).
    by rewrite /tilt_at KL_gibbs_self // E_scal.
  have big : ln (ref y0) + s * r y0 <= ln (E ref (fun y => exp (s * r y))).
    have e0 := exp_pos (s * r y0); have t0 := Rmult_lt_0_compat _ _ r0 e0.
    rewrite -[s * r y0 in X in X <= _]ln_exp -ln_mult //.
    have : ref y0 * exp (s * r y0) <= E ref (fun y => exp (s * r y)).
      apply: (@term_le_sum _ (fun y => ref y * exp (s * r y))) => y.
      by apply: Rmult_le_pos; [apply lr | apply/Rlt_le/exp_pos].
    by case=> [lt'|->]; [apply/Rlt_le/ln_increasing | lra].
  have sE : s * (r y0 - c) = 1 - ln (ref y0) by rewrite /s; field; lra.
  apply: (Rmult_lt_reg_l s) => //; lra.
have cont : Ranalysis1.continuity f.
  move=> u; apply/continuity_pt_filterlim; apply: ex_derive_continuous.
  by eexists; exact: reward_derivative.
have [u [[u0 u1] fu]] := IVT_gen f 0 s c cont ltac:(rewrite Rmin_left ?Rmax_right; lra).
rewrite Rmin_left in u0; last by lra.
exists u; split=> //; case: u0 => // e; rewrite -e in fu; lra.
Qed.

(** ** S7 with the dual variable at its end *)

Theorem approximate_optimum_dual_closed d p ref r c M l eps : law d -> law p -> law ref -> d ≪ p ->
  d ≪ ref -> (forall y, r y <= M) -> c < M -> c <= E p r -> 0 <= l <= 1 ->
  (l = 1 -> forall y, r y = M -> d y = 0) -> KL d ref <= eps ->
  E d (fun y => ln (1 - l * (r y - c) / (M - c))) - eps <= CE d p - CE d ref.
Proof.
move=> ld lp lr dp dr rM cM cp l01 l1 close; rewrite loss_change_is_KL_difference //.
by have := weak_duality ld rM cM lp dp cp l01 l1; lra.
Qed.

(** ** R4 for any law t in place of the tilt *)

Theorem change_pinsker p t r m M : law p -> law t -> p ≪ t -> (forall y, m <= r y <= M) ->
  Rabs (E p r - E t r) <= (M - m) * sqrt (KL p t / 2).
Proof.
move=> lp lt pt mM; apply: abs_le_sqrt; [|exact: KL_ge0|exact: pinsker].
by case: (law_support lp) => y _; move: (mM y); lra.
Qed.

Theorem change_bretagnolle_huber p t r m M : law p -> law t -> p ≪ t -> (forall y, m <= r y <= M) ->
  Rabs (E p r - E t r) <= (M - m) * sqrt (1 - exp (- KL p t)).
Proof.
move=> lp lt pt mM; apply: (Rle_trans _ _ _ (expectation_difference_TV lp lt mM)).
apply: Rmult_le_compat_l; first by case: (law_support lp) => y _; move: (mM y); lra.
have tv0 : 0 <= TV p t.
  by apply: Rle_mult_inv_pos; [apply: sum_ge0 => y; exact: Rabs_pos | lra].
rewrite -[X in X <= _](sqrt_pow2 _ tv0); apply: sqrt_le_1_alt; exact: bretagnolle_huber.
Qed.

Theorem rise_bernstein p t r M : law p -> law t -> p ≪ t -> (forall y, r y <= M) -> E t r < M ->
  E p r - E t r <= sqrt (2 * KL p t * Var t r) + (M - E t r) * KL p t / 3.
Proof.
move=> lp lt pt rM tM.
have -> : E p r - E t r = E p (fun y => r y - E t r) by rewrite E_minus E_const.
apply: bernstein_transport => //; [by rewrite E_minus E_const //; ring | by lra |].
by move=> y; move: (rM y); lra.
Qed.

Theorem drop_bernstein p t r m : law p -> law t -> p ≪ t -> (forall y, m <= r y) -> m < E t r ->
  E t r - E p r <= sqrt (2 * KL p t * Var t r) + (E t r - m) * KL p t / 3.
Proof.
move=> lp lt pt rm tm.
have -> : E t r - E p r = E p (fun y => E t r - r y) by rewrite E_minus E_const.
have -> : Var t r = E t (fun y => (E t r - r y) ^ 2) by apply: E_ext => y; ring.
apply: bernstein_transport => //; [by rewrite E_minus E_const //; ring | by lra |].
by move=> y; move: (rm y); lra.
Qed.

(** ** J1: closed form and multiplier of a law that satisfies the first-order condition *)

Theorem joint_closed_form joint d ref r beta lambda mu y : (forall y, 0 < ref y) ->
  (forall y, 0 < joint y) -> 0 < beta -> 0 < lambda ->
  r y - beta * ln (joint y / ref y) + lambda * d y / joint y = mu ->
  (d y = 0 -> joint y = ref y * exp ((r y - mu) / beta)) /\
  (0 < d y -> let u := lambda * d y / (beta * joint y) in
   u + ln u = ln (lambda * d y / beta) - (r y + beta * ln (ref y) - mu) / beta).
Proof.
move=> ref0 j0 b0 l0 foc; have jy := j0 y; have ry := ref0 y.
rewrite ln_quotient // in foc; split=> dy.
  rewrite dy in foc; rewrite -[ref y]exp_ln // -exp_plus -[LHS]exp_ln //; congr exp.
  by apply: (Rmult_eq_reg_l beta); [field_simplify; lra | lra].
move=> u; have ld0 := Rmult_lt_0_compat _ _ l0 dy.
have -> : ln u = ln (lambda * d y / beta) - ln (joint y).
  rewrite /u (_ : lambda * d y / (beta * joint y) = lambda * d y / beta / joint y); last by field; lra.
  by rewrite ln_quotient //; exact: Rdiv_lt_0_compat.
have -> : u = lambda * d y / joint y / beta by rewrite /u; field; lra.
have -> : lambda * d y / joint y = mu - r y + beta * (ln (joint y) - ln (ref y)) by lra.
by field; lra.
Qed.

Theorem joint_multiplier joint d ref r beta lambda mu : law joint -> law d -> law ref ->
  (forall y, 0 < ref y) -> (forall y, 0 < joint y) -> 0 < beta -> 0 <= lambda ->
  (forall y, r y - beta * ln (joint y / ref y) + lambda * d y / joint y = mu) ->
  mu = beta * ln (Z ref r beta) + lambda - beta * KL joint (tilt ref r beta) /\
  beta * ln (Z ref r beta) <= mu <= beta * ln (Z ref r beta) + lambda.
Proof.
move=> lj ld lr ref0 j0 b0 l0 foc.
have jr : joint ≪ ref by move=> y; move: (ref0 y); lra.
have lt : law (tilt ref r beta) by exact: gibbs_law.
have jt : joint ≪ tilt ref r beta by exact: dominated_gibbs.
have muE : mu = Jb joint ref r beta + lambda.
  rewrite -(E_const mu lj) /Jb -(Rmult_1_r lambda) -(proj2 ld) /KL /E !collect.
  apply: sum_ext => y; rewrite -(foc y); move: (j0 y) => ?; field; lra.
have gap := regularised_reward_gap r lj lr jr b0.
have val := regularised_reward_value r lr b0.
have eq : mu = beta * ln (Z ref r beta) + lambda - beta * KL joint (tilt ref r beta) by lra.
split=> //; have k0 := KL_ge0 lj lt jt; have bk := Rmult_le_pos _ _ (Rlt_le _ _ b0) k0.
split; last by lra.
have z0 : 0 < Z ref r beta by exact: E_exp_gt0.
have mono x x' : x <= x' -> exp x <= exp x' by case=> [/exp_increasing|->]; lra.
have small : exp (- mu / beta) * Z ref r beta <= 1.
  rewrite -(proj2 lj) /Z -E_scal; apply: sum_le => y.
  have jy := j0 y; have ry := ref0 y.
  rewrite -[X in _ <= X]exp_ln // -[ref y]exp_ln // -!exp_plus.
  have : - mu / beta + (ln (ref y) + r y / beta) <= ln (joint y).
    have u0 : 0 <= lambda * d y / joint y.
      by apply: Rle_mult_inv_pos => //; apply: Rmult_le_pos => //; apply ld.
    have := foc y; rewrite ln_quotient // => f; apply: (Rmult_le_reg_l beta) => //.
    by field_simplify; lra.
  by move=> le; apply: mono; lra.
have := ln_le_sub1 (Rmult_lt_0_compat _ _ (exp_pos (- mu / beta)) z0).
rewrite ln_mult ?ln_exp //; last by exact: exp_pos.
move=> le; have le0 : - mu / beta + ln (Z ref r beta) <= 0 by lra.
apply: (Rmult_le_reg_r (/ beta)); first exact: Rinv_0_lt_compat.
by rewrite (_ : beta * ln (Z ref r beta) * / beta = ln (Z ref r beta)); [lra | field; lra].
Qed.

(** ** S7 by Bretagnolle and Huber, which says something at every distance *)

Theorem approximate_optimum_bretagnolle_huber d p ref r m M eps : law d -> law p -> law ref -> d ≪ p ->
  d ≪ ref -> (forall y, m <= r y <= M) -> KL d ref <= eps ->
  E p r <= E d r + (M - m) * sqrt (1 - exp (- (eps + (CE d p - CE d ref)))).
Proof.
move=> ld lp lr dp dr mM close; rewrite loss_change_is_KL_difference //.
have R0 : 0 <= M - m by case: (law_support ld) => y _; move: (mM y); lra.
have farther : exp (- (eps + (KL d p - KL d ref))) <= exp (- KL d p).
  case: (Rle_lt_or_eq_dec _ _ close) => [less|->]; last by apply: Req_le; congr exp; lra.
  by apply: Rlt_le; apply: exp_increasing; lra.
have root : sqrt (1 - exp (- KL d p)) <= sqrt (1 - exp (- (eps + (KL d p - KL d ref)))).
  by apply: sqrt_le_1_alt; lra.
have := change_bretagnolle_huber ld lp dp mM; have := Rmult_le_compat_l _ _ _ R0 root.
by move: (Rle_abs (- (E d r - E p r))); rewrite Rabs_Ropp; lra.
Qed.

(** ** P4: thresholds through rho = cos(d - p, g_c) *)

Theorem step_improves_from_gradient d theta g eta rho : law d -> 0 < eta -> 0 < rho ->
  0 < centred_sq g ->
  let p := softmax theta in
  let size := sqrt (centred_sq g) in
  let gradient := sqrt (\sum_(y : Y) (p y - d y) ^ 2) in
  \sum_(y : Y) ((d y - p y) * g y) = rho * gradient * size ->
  eta * size / (4 * rho) < gradient ->
  CE d (softmax (fun y => theta y + eta * g y)) < CE d p.
Proof.
move=> ld e0 r0 g0 p size gradient angle big; apply: step_improves_if => //.
have s0 : 0 < size by exact: sqrt_lt_R0.
have sq : size * size = centred_sq g by apply: sqrt_sqrt; lra.
have := Rmult_lt_compat_l _ _ _ (Rmult_lt_0_compat _ _ r0 s0) big.
rewrite angle -sq (_ : rho * size * (eta * size / (4 * rho)) = eta * (size * size) / 4); last first.
  by field; lra.
by rewrite (_ : rho * size * gradient = rho * gradient * size) //; ring.
Qed.

Theorem step_improves_from_excess d theta g eta rho m : law d -> 0 < eta -> 0 < rho ->
  0 < centred_sq g -> 0 < m -> (forall y, m <= softmax theta y) ->
  let p := softmax theta in
  let size := sqrt (centred_sq g) in
  \sum_(y : Y) ((d y - p y) * g y) = rho * sqrt (\sum_(y : Y) (p y - d y) ^ 2) * size ->
  ln (1 + (eta * size / (4 * rho)) ^ 2 / m) < KL d p ->
  CE d (softmax (fun y => theta y + eta * g y)) < CE d p.
Proof.
move=> ld e0 r0 g0 m0 mp p size angle big; have [y0 _] := law_support ld.
apply: (step_improves_from_gradient ld e0 r0 g0 angle).
have lp : law p by apply: softmax_law.
have s0 : 0 < size by exact: sqrt_lt_R0.
have x0 : 0 <= eta * size / (4 * rho).
  by apply: Rle_mult_inv_pos; [apply: Rmult_le_pos|]; lra.
rewrite -[X in X < _](sqrt_pow2 _ x0); apply: sqrt_lt_1_alt; split; first exact: pow2_ge_0.
set x := (eta * size / (4 * rho)) ^ 2 in big *; set S := \sum_(y : Y) _.
have below : KL d p <= ln (1 + S / m) by exact: excess_below_log.
have x2 : 0 <= x / m by apply: Rle_mult_inv_pos => //; exact: pow2_ge_0.
have S0 : 0 <= S / m by apply: Rle_mult_inv_pos => //; apply: sum_ge0 => y; exact: pow2_ge_0.
have less : 1 + x / m < 1 + S / m by apply: ln_lt_inv; lra.
by apply: (Rmult_lt_reg_r (/ m)); [exact: Rinv_0_lt_compat | move: less; rewrite /Rdiv; lra].
Qed.

(** ** S8: resolution and length *)

(** The paired change of the loss is log Z - r/beta on the support. *)
Lemma paired_change d r beta y : law d -> 0 < d y ->
  ln (d y) - ln (tilt d r beta y) = ln (Z d r beta) - r y / beta.
Proof.
move=> ld dy; rewrite /tilt /gibbs -/(Z d r beta).
have z0 : 0 < Z d r beta by exact: E_exp_gt0.
have e0 := exp_pos (r y / beta).
rewrite ln_quotient //; last exact: Rmult_lt_0_compat.
by rewrite ln_mult // ln_exp; ring.
Qed.

Theorem paired_mean_and_variance d r beta : law d -> 0 < beta ->
  let change := fun y => ln (d y) - ln (tilt d r beta y) in
  E d change = CE d (tilt d r beta) - CE d d /\ Var d change = Var d r / beta ^ 2.
Proof.
move=> ld b0 change; have mean : E d change = CE d (tilt d r beta) - CE d d.
  by rewrite /CE /E !collect; apply: sum_ext => y; rewrite /change; ring.
split=> //; have mE := mean; rewrite (proj1 (coupling_gap r beta ld)) in mE.
rewrite /Var mE -[RHS]E_div; apply: E_on_support => // y dy.
by rewrite /change paired_change //; field; lra.
Qed.

Theorem samples_to_see_it d r beta m M z : law d -> 0 < beta -> (forall y, 0 < d y -> m <= r y <= M) ->
  (exists y y', 0 < d y /\ 0 < d y' /\ r y <> r y') -> m < M ->
  let change := fun y => ln (d y) - ln (tilt d r beta y) in
  let n := z ^ 2 * Var d change / E d change ^ 2 in
  0 < E d change /\ 64 * z ^ 2 * beta ^ 2 * Var d r / (M - m) ^ 4 <= n.
Proof.
move=> ld b0 mM nc mlM change n; have [mean var] := paired_mean_and_variance r ld b0.
have [g0 gi] := coupling r ld b0.
have pos : 0 < E d change.
  rewrite mean; case: g0 => // e; symmetry in e; move/gi: e => c.
  by case: nc => y [y' [dy [dy' []]]]; exact: c.
split=> //; have le := coupling_hoeffding_on_support ld b0 mM; rewrite -mean in le.
have v0 := Var_ge0 r ld; have b2 := pow_lt _ 2 b0; have R2 : 0 < (M - m) ^ 2 by apply: pow_lt; lra.
set G := E d change in pos le n *; set H := (M - m) ^ 2 / (8 * beta ^ 2) in le.
have H0 : 0 < H by apply: Rdiv_lt_0_compat; lra.
rewrite /n var (_ : 64 * _ * _ * _ / _ = z ^ 2 * (Var d r / beta ^ 2) / H ^ 2); last first.
  by rewrite /H; field; split; [lra | apply: Rgt_not_eq; lra].
apply: Rmult_le_compat_l.
  by apply: Rmult_le_pos; [exact: pow2_ge_0 | apply: Rle_mult_inv_pos].
apply: Rinv_le_contravar; first exact: pow_lt.
by apply: pow_incr; lra.
Qed.

Theorem change_per_token d r beta m M T : law d -> 0 < beta -> (forall y, 0 < d y -> m <= r y <= M) ->
  0 < T -> (CE d (tilt d r beta) - CE d d) / T <= (M - m) ^ 2 / (8 * beta ^ 2 * T).
Proof.
move=> ld b0 mM T0; have le := coupling_hoeffding_on_support ld b0 mM.
rewrite (_ : _ / (8 * beta ^ 2 * T) = (M - m) ^ 2 / (8 * beta ^ 2) / T); last first.
  by field; split; apply: Rgt_not_eq; lra.
by apply: Rmult_le_compat_r => //; apply/Rlt_le/Rinv_0_lt_compat.
Qed.

End AsStated.
