(** * J3: a little SFT inside RL is nearly free

    The page of the statement follows the path of joint optima from lambda = 0. Here the bounds come from the
    joint optimum p at one lambda. Let t be the tilt, w = d/p and D = KL(p‖t); chi2(d‖p) = sum d^2/p - 1.
    The first-order condition says beta log(p/t) = lambda (w - 1) + beta D. What is lost is beta D, by F3; what is
    saved is E_d log(p/t) = (lambda/beta) chi2(d‖p) + D. *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Foundations SftThenRl Decoupling AsStated.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

Section LittleSft.
Variable Y : finType.
Implicit Types (p d ref r : Y -> R).

Definition chi2 d p := \sum_(y : Y) (d y ^ 2 / p y) - 1.

Section AtOneWeight.
Variables (joint d ref r : Y -> R) (beta lambda mu : R).
Hypothesis (lj : law joint) (ld : law d) (lr : law ref).
Hypothesis (ref0 : forall y, 0 < ref y) (j0 : forall y, 0 < joint y).
Hypothesis (b0 : 0 < beta) (l0 : 0 < lambda).
Hypothesis foc : joint_stationary joint d ref r beta lambda mu.

Local Notation t := (tilt ref r beta).
Local Notation D := (KL joint t).
Local Notation w y := (d y / joint y).
Local Notation saving := (CE d t - CE d joint).
Local Notation cost := (Jb t ref r beta - Jb joint ref r beta).
Local Notation log_ratio := (fun y => ln (joint y / t y)).

Let lt : law t. Proof. exact: gibbs_law. Qed.
Let t0 y : 0 < t y. Proof. exact: gibbs_gt0. Qed.
Let jt : joint ≪ t. Proof. exact: full_dominates. Qed.
Let D0 : 0 <= D. Proof. exact: KL_ge0. Qed.

Lemma log_ratio_line y : beta * log_ratio y = lambda * (w y - 1) + beta * D.
Proof.
have [muE _] := joint_multiplier lj ld lr ref0 j0 b0 (Rlt_le _ _ l0) foc.
have lnt : ln (t y) = ln (ref y) + r y / beta - ln (Z ref r beta) by exact: ln_gibbs.
have := foc y; rewrite (ln_quotient (j0 y) (ref0 y)) (ln_quotient (j0 y) (t0 y)) lnt muE => e.
have -> : beta * (ln (joint y) - (ln (ref y) + r y / beta - ln (Z ref r beta))) =
          beta * (ln (joint y) - ln (ref y)) - r y + beta * ln (Z ref r beta) by field; lra.
by rewrite /Rdiv in e *; lra.
Qed.

Lemma ratio_mean : E joint (fun y => w y) = 1.
Proof. by rewrite -(proj2 ld); apply: sum_ext => y; field; have := j0 y; lra. Qed.

Lemma chi2_square : chi2 d joint = E joint (fun y => (w y - 1) ^ 2).
Proof.
have -> : E joint (fun y => (w y - 1) ^ 2) =
          E joint (fun y => w y ^ 2) - (2 * E joint (fun y => w y) - E joint (fun _ => 1)).
  by rewrite -E_scal -!E_minus; apply: E_ext => y; ring.
rewrite ratio_mean E_const // /chi2 (_ : \sum_(y : Y) _ = E joint (fun y => w y ^ 2)); first by ring.
by apply: sum_ext => y; field; have := j0 y; lra.
Qed.

Lemma chi2_ge0 : 0 <= chi2 d joint.
Proof. by rewrite chi2_square; apply: E_ge0 => // y; exact: pow2_ge_0. Qed.

Lemma chi2_mean p : (forall y, 0 < p y) -> chi2 d p = E d (fun y => d y / p y) - 1.
Proof. by move=> p0; congr (_ - _); apply: sum_ext => y; field; have := p0 y; lra. Qed.

Lemma saving_mean : saving = E d log_ratio.
Proof. by rewrite /CE /E !collect; apply: sum_ext => y; rewrite ln_quotient //; ring. Qed.

(** What is saved and what is lost, exactly. *)
Theorem joint_saving_identity : saving = lambda / beta * chi2 d joint + D.
Proof.
rewrite saving_mean (@E_ext _ _ _ (fun y => lambda / beta * w y + (D - lambda / beta))) => [|y]; last first.
  apply: (Rmult_eq_reg_l beta); last by lra.
  by rewrite (log_ratio_line y); field; split; have := j0 y; lra.
by rewrite E_plus E_scal E_const // chi2_mean //; ring.
Qed.

Theorem joint_cost_identity : cost = beta * D.
Proof. by apply: regularised_reward_gap => //; exact: full_dominates. Qed.

Theorem joint_saving_lower : lambda / beta * chi2 d joint <= saving.
Proof. by rewrite joint_saving_identity; lra. Qed.

(** By J2 what is lost is at most lambda times what is saved. *)
Lemma cost_below_saving : beta * D <= lambda * saving.
Proof.
rewrite -joint_cost_identity; apply: (joint_optimal lt lj ld ref0 j0 _ b0 (Rlt_le _ _ l0) foc).
exact: full_dominates.
Qed.

(** w and q = p/t rise together, so that sum d^2/t = E_d[w q] is at least E_d q + e^D chi2(d‖p). *)
Theorem joint_saving_upper : saving <= lambda / beta * chi2 d t.
Proof.
pose q y := joint y / t y; have q0 y : 0 < q y by exact: Rdiv_lt_0_compat.
have together y : 0 <= (w y - 1) * (q y - exp D).
  have line : ln (q y) = D + lambda / beta * (w y - 1).
    apply: (Rmult_eq_reg_l beta); last by lra.
    by rewrite (log_ratio_line y); field; split; have := j0 y; lra.
  have lb := Rdiv_lt_0_compat _ _ l0 b0.
  have sameside a b : a <= b -> exp a <= exp b by case=> [/exp_increasing|->]; lra.
  rewrite -[q y]exp_ln // line; case: (Rle_lt_dec 0 (w y - 1)) => h.
    apply: Rmult_le_pos => //.
    suff : exp D <= exp (D + lambda / beta * (w y - 1)) by lra.
    by apply: sameside; have := Rmult_le_pos _ _ (Rlt_le _ _ lb) h; lra.
  rewrite -Rmult_opp_opp; apply: Rmult_le_pos; first by lra.
  suff : exp (D + lambda / beta * (w y - 1)) <= exp D by lra.
  by apply: sameside; have := Rmult_lt_compat_l _ _ _ lb h; lra.
have saved : saving <= E d q - 1.
  rewrite -(E_const 1 ld) -E_minus saving_mean.
  by apply: E_le => // y; exact: (ln_le_sub1 (q0 y)).
have cov : E d q + exp D * chi2 d joint <= chi2 d t + 1.
  have := E_ge0 ld together.
  have -> : E d (fun y => (w y - 1) * (q y - exp D)) =
            (chi2 d t + 1) - E d q - exp D * (E d (fun y => w y) - E d (fun _ => 1)).
    rewrite chi2_mean // -E_minus -E_scal.
    rewrite (_ : E d (fun y => d y / t y) - 1 + 1 = E d (fun y => w y * q y)); last first.
      rewrite Rplus_assoc Rplus_opp_l Rplus_0_r; apply: E_ext => y; rewrite /q; field.
      by have := j0 y; have := t0 y; lra.
    by rewrite -!E_minus; apply: E_ext => y; ring.
  by rewrite (E_const 1 ld) -chi2_mean //; lra.
have eD := exp_tangent D; have c0 := chi2_ge0.
have := Rmult_le_compat_r _ _ _ c0 eD; have Dc := Rmult_le_pos _ _ D0 c0 => more.
have gain : saving <= chi2 d t - chi2 d joint by lra.
have sE := joint_saving_identity; have bD := cost_below_saving.
have := Rmult_le_compat_l _ _ _ (Rlt_le _ _ l0) gain => lgain.
apply: (Rmult_le_reg_l beta) => //.
have e1 : beta * saving = lambda * chi2 d joint + beta * D by rewrite sE; field; lra.
by rewrite e1 (_ : beta * (lambda / beta * chi2 d t) = lambda * chi2 d t); [lra | field; lra].
Qed.

(** The tilt is p e^{-D - (lambda/beta)(w - 1)}, and its total mass is one. *)
Lemma tilt_mass : E joint (fun y => exp (- (lambda / beta * (w y - 1)))) = exp D.
Proof.
rewrite -[RHS]Rmult_1_r -[in RHS](proj2 lt) sum_scal; apply: sum_ext => y.
have ratio0 := Rdiv_lt_0_compat _ _ (j0 y) (t0 y).
have massE : t y = joint y * exp (- ln (joint y / t y)).
  by rewrite exp_Ropp exp_ln //; field; have := j0 y; have := t0 y; lra.
have line : - ln (joint y / t y) = - D + - (lambda / beta * (w y - 1)).
  apply: (Rmult_eq_reg_l (- beta)); last by lra.
  by rewrite Rmult_opp_opp (log_ratio_line y); field; split; have := j0 y; lra.
rewrite massE line exp_plus (exp_Ropp D); field.
by apply/Rgt_not_eq/exp_pos.
Qed.

(** What is lost is at most half of lambda times what is saved. *)
Theorem joint_cost_below_half : cost <= lambda / 2 * saving.
Proof.
rewrite joint_cost_identity joint_saving_identity.
set a := lambda / beta; have a0 : 0 < a by exact: Rdiv_lt_0_compat.
have lE : lambda = a * beta by rewrite /a; field; lra.
have c0 := chi2_ge0; rewrite lE.
suff main : (2 - a) * D <= a ^ 2 * chi2 d joint.
  by have := Rmult_le_compat_l _ _ _ (Rlt_le _ _ b0) main; lra.
case: (Rle_lt_dec 2 a) => a2.
  have := Rmult_le_pos (a - 2) _ ltac:(lra) D0.
  by have := Rmult_le_pos _ _ (pow2_ge_0 a) c0; lra.
have w0 y : 0 <= w y by apply: Rle_mult_inv_pos; [apply ld | exact: j0].
have remainder y : exp (- (a * (w y - 1))) - 1 + a * (w y - 1) <= (exp a - 1 - a) * (w y - 1) ^ 2.
  have below : - (a * (w y - 1)) <= a by have := Rmult_le_pos _ _ (Rlt_le _ _ a0) (w0 y); lra.
  have := exp_quadratic_remainder_monotone below => h.
  by apply: (Rmult_le_reg_l (a ^ 2)); [exact: pow_lt | lra].
have : exp D - 1 <= (exp a - 1 - a) * chi2 d joint.
  rewrite chi2_square -E_scal.
  have -> : exp D - 1 = E joint (fun y => exp (- (a * (w y - 1))) - 1 + a * (w y - 1)).
    rewrite E_plus E_minus E_scal E_minus ratio_mean !E_const // tilt_mass; ring.
  exact: E_le.
have := exp_tangent D => h1 h2; have h3 : D <= (exp a - 1 - a) * chi2 d joint by lra.
have := Rmult_le_compat_l (2 - a) _ _ ltac:(lra) h3.
by have := Rmult_le_compat_r _ _ _ c0 (exp_quadratic_remainder_le (Rlt_le _ _ a0)); lra.
Qed.

(** The variational principle at the law p (1 - c (lambda/beta)(w - 1)), c = beta/(beta + lambda (W - 1)). *)
Theorem joint_cost_lower W : (forall y, w y <= W) ->
  lambda ^ 2 * chi2 d joint / (2 * (beta + lambda * (W - 1))) <= cost.
Proof.
move=> wW; rewrite joint_cost_identity.
have W1 : 1 <= W by rewrite -ratio_mean -[X in _ <= X](E_const W lj); exact: E_le.
set a := lambda / beta; have a0 : 0 < a by exact: Rdiv_lt_0_compat.
have lE : lambda = a * beta by rewrite /a; field; lra.
have aW := Rmult_le_pos _ (W - 1) (Rlt_le _ _ a0) ltac:(lra).
set c := / (1 + a * (W - 1)); have c0 : 0 < c by apply: Rinv_0_lt_compat; lra.
have cE : c * (1 + a * (W - 1)) = 1 by apply: Rinv_l; lra.
have c1 : c <= 1 by rewrite -Rinv_1; apply: Rinv_le_contravar; lra.
pose n y := 1 - c * (a * (w y - 1)).
have cn y : c <= n y.
  have := Rmult_le_compat_l (c * a) _ _ (Rlt_le _ _ (Rmult_lt_0_compat _ _ c0 a0)) (wW y).
  by rewrite /n; lra.
have En : E joint n = 1.
  by rewrite /n E_minus E_scal E_scal E_minus ratio_mean !E_const //; ring.
have lnu : law (fun y => joint y * n y).
  by split=> [y|//]; apply: Rmult_le_pos; [apply lj | have := cn y; lra].
have line y : log_ratio y = D + a * (w y - 1).
  by apply: (Rmult_eq_reg_l beta); [rewrite (log_ratio_line y) /a; field; have := j0 y; lra | lra].
have kl := KL_ge0 lnu lt (@full_dominates _ _ _ t0).
have klE : KL (fun y => joint y * n y) t = E joint (fun y => n y * ln (n y)) + E joint (fun y => n y * log_ratio y).
  rewrite /KL /E !collect; apply: sum_ext => y; have ny := Rlt_le_trans _ _ _ c0 (cn y).
  rewrite (_ : joint y * n y / t y = n y * (joint y / t y)); last by field; have := t0 y; lra.
  by rewrite ln_mult //; [ring | exact: Rdiv_lt_0_compat].
have cross : E joint (fun y => n y * log_ratio y) = D - c * a ^ 2 * chi2 d joint.
  rewrite chi2_square -E_scal.
  rewrite (@E_ext _ _ _ (fun y => D * n y + a * (w y - 1) - c * a ^ 2 * (w y - 1) ^ 2)); last first.
    by move=> y; rewrite line /n; ring.
  by rewrite E_minus E_plus !E_scal E_minus En ratio_mean E_const //; ring.
have entropy : E joint (fun y => n y * ln (n y)) <= c * a ^ 2 * chi2 d joint / 2.
  have -> : c * a ^ 2 * chi2 d joint / 2 = E joint (fun y => (n y - 1) + (n y - 1) ^ 2 / (2 * c)).
    rewrite chi2_square E_plus E_minus En E_const // -E_scal -E_div Rminus_eq_0 Rplus_0_l.
    by apply: E_ext => y; rewrite /n; field; split; have := j0 y; lra.
  by apply: E_le => // y; exact: entropy_parabola.
have -> : lambda ^ 2 * chi2 d joint / (2 * (beta + lambda * (W - 1))) = beta * (c * a ^ 2 * chi2 d joint / 2).
  by rewrite /c lE; field; split; [lra|]; have := Rmult_le_pos _ _ (Rlt_le _ _ b0) aW; lra.
by apply: Rmult_le_compat_l; lra.
Qed.

(** The catalogue's own form of the four bounds. *)
Theorem joint_bounds W : (forall y, w y <= W) ->
  let least := lambda * chi2 d joint / (beta + lambda * W) in
  let most := lambda / beta * chi2 d t in
  least <= saving <= most /\ lambda / 2 * least <= cost <= lambda / 2 * most.
Proof.
move=> wW least most; have c0 := chi2_ge0.
have W1 : 1 <= W by rewrite -ratio_mean -[X in _ <= X](E_const W lj); exact: E_le.
have lW := Rmult_le_pos _ _ (Rlt_le _ _ l0) (Rle_trans _ _ _ Rle_0_1 W1).
have lW1 := Rmult_le_pos _ (W - 1) (Rlt_le _ _ l0) ltac:(lra).
have lc := Rmult_le_pos _ _ (Rlt_le _ _ l0) c0.
split; split.
- apply: Rle_trans joint_saving_lower.
  rewrite (_ : lambda / beta * chi2 d joint = lambda * chi2 d joint / beta); last by field; lra.
  by apply: Rmult_le_compat_l => //; apply: Rinv_le_contravar; lra.
- exact: joint_saving_upper.
- apply: Rle_trans (joint_cost_lower wW).
  rewrite (_ : lambda / 2 * least = lambda ^ 2 * chi2 d joint / (2 * (beta + lambda * W))); last first.
    by rewrite /least; field; lra.
  apply: Rmult_le_compat_l; first by have := Rmult_le_pos _ _ (Rlt_le _ _ l0) lc; lra.
  by apply: Rinv_le_contravar; lra.
- apply: (Rle_trans _ _ _ joint_cost_below_half).
  by apply: Rmult_le_compat_l; [lra | exact: joint_saving_upper].
Qed.
(** Near lambda = 0: with d/t at most T, d/p is at most 3 T and chi2(d‖p) close to chi2(d‖t). *)
Lemma ratio_near T y : lambda <= beta -> d y / t y <= T -> w y <= 3 * T.
Proof.
move=> lb dT; have jy := j0 y; have ty := t0 y; have [d0 _] := ld; have dy := d0 y.
have q0 : 0 < joint y / t y by exact: Rdiv_lt_0_compat.
have w0 : 0 <= w y by exact: Rle_mult_inv_pos.
have line : - 1 <= ln (joint y / t y).
  apply: (Rmult_le_reg_l beta) => //; rewrite (log_ratio_line y).
  by have := Rmult_le_pos _ _ (Rlt_le _ _ l0) w0; have := Rmult_le_pos _ _ (Rlt_le _ _ b0) D0; lra.
have third : 1 <= 3 * (joint y / t y).
  have e : exp (- 1) <= joint y / t y.
    by rewrite -[X in _ <= X]exp_ln //; case: line => [/exp_increasing|->]; lra.
  have e1 : exp (- 1) * exp 1 = 1 by rewrite -exp_plus Rplus_opp_l exp_0.
  by have := Rmult_le_compat_l _ _ _ (Rlt_le _ _ (exp_pos (- 1))) exp_le_3; lra.
have := Rmult_le_compat_r _ _ _ w0 third.
by rewrite (_ : 3 * (joint y / t y) * w y = 3 * (d y / t y)); [lra | field; lra].
Qed.

Lemma chi2_near W : (forall y, w y <= W) ->
  chi2 d t - chi2 d joint <= lambda / beta * W * (chi2 d t + 1).
Proof.
move=> wW; set a := lambda / beta; have a0 : 0 < a by exact: Rdiv_lt_0_compat.
suff : \sum_(y : Y) ((1 - a * W) * (d y ^ 2 / t y)) <= \sum_(y : Y) (d y ^ 2 / joint y).
  by rewrite -sum_scal /chi2; lra.
apply: sum_le => y; have jy := j0 y; have ty := t0 y.
have [muE [low _]] := joint_multiplier lj ld lr ref0 j0 b0 (Rlt_le _ _ l0) foc.
have line : ln (joint y / t y) <= a * W.
  apply: (Rmult_le_reg_l beta) => //; rewrite (log_ratio_line y).
  rewrite (_ : beta * (a * W) = lambda * W); last by rewrite /a; field; lra.
  by have := Rmult_le_compat_l _ _ _ (Rlt_le _ _ l0) (wW y); lra.
have := ln_le_sub1 (Rdiv_lt_0_compat _ _ ty jy); rewrite (ln_quotient ty jy).
rewrite (ln_quotient jy ty) in line => le.
have sq : 0 <= d y ^ 2 / t y by apply: Rle_mult_inv_pos => //; exact: pow2_ge_0.
rewrite (_ : d y ^ 2 / joint y = t y / joint y * (d y ^ 2 / t y)); last by field; lra.
by apply: Rmult_le_compat_r => //; lra.
Qed.

Lemma joint_near T : lambda <= beta -> (forall y, d y / t y <= T) ->
  let K := 3 * T * (chi2 d t + 1) in
  Rabs (saving - lambda / beta * chi2 d t) <= K / beta ^ 2 * lambda ^ 2 /\
  Rabs (cost - lambda ^ 2 / (2 * beta) * chi2 d t) <= K / beta ^ 2 * lambda ^ 3.
Proof.
move=> lb dT K; have wW y := ratio_near lb (dT y).
have c0 := chi2_ge0; set a := lambda / beta; have a0 : 0 < a by exact: Rdiv_lt_0_compat.
have near : chi2 d t - chi2 d joint <= a * K by have := chi2_near wW; rewrite /K -/a; lra.
have lE : lambda = a * beta by rewrite /a; field; lra.
have W1 : 1 <= 3 * T by rewrite -ratio_mean -[X in _ <= X](E_const (3 * T) lj); exact: E_le.
have [[_ savedU] [costL costU]] := joint_bounds wW; rewrite -/a in savedU costL costU.
have savedL := joint_saving_lower; rewrite -/a in savedL.
have near' : a * (chi2 d t - chi2 d joint) <= a * (a * K).
  by apply: Rmult_le_compat_l; lra.
split.
  rewrite Rabs_left1; last by lra.
  rewrite (_ : K / beta ^ 2 * lambda ^ 2 = a * (a * K)); last by rewrite /a; field; lra.
  by lra.
rewrite (_ : lambda ^ 2 / (2 * beta) * chi2 d t = lambda / 2 * (a * chi2 d t)); last by rewrite /a; field; lra.
rewrite Rabs_left1; last by lra.
have aW := Rmult_le_pos _ _ (Rlt_le _ _ a0) (Rle_trans _ _ _ Rle_0_1 W1).
(* the lower bound is at least lambda/2 a chi2(d‖p) (1 - 3 a T) *)
have least : a * chi2 d joint * (1 - a * (3 * T)) <= lambda * chi2 d joint / (beta + lambda * (3 * T)).
  rewrite (_ : lambda * chi2 d joint / _ = a * chi2 d joint * / (1 + a * (3 * T))); last first.
    rewrite lE; field; split; first by lra.
    by have := Rmult_le_pos _ _ (Rlt_le _ _ b0) aW; lra.
  apply: Rmult_le_compat_l; first by apply: Rmult_le_pos; lra.
  apply: (Rmult_le_reg_r (1 + a * (3 * T))); first by lra.
  by rewrite Rinv_l; [have := pow2_ge_0 (a * (3 * T)); lra | lra].
have := Rmult_le_compat_l (lambda / 2) _ _ ltac:(lra) least => costL'.
have fall : a * (a * (3 * T * chi2 d joint)) <= a * (a * K).
  have le : chi2 d joint <= chi2 d t + 1.
    by have := Rle_trans _ _ _ savedL savedU; move/(Rmult_le_reg_l _ _ _ a0); lra.
  by do 2 (apply: Rmult_le_compat_l; first by lra); apply: Rmult_le_compat_l; lra.
rewrite (_ : K / beta ^ 2 * lambda ^ 3 = lambda * (a * (a * K))); last by rewrite /a; field; lra.
have := Rmult_le_compat_l (lambda / 2) _ _ ltac:(lra) (Rplus_le_compat _ _ _ _ near' fall).
lra.
Qed.
End AtOneWeight.

(** For lambda -> 0 the saving is of first order and the cost of second. *)
Theorem joint_expansions d ref r beta : law d -> law ref -> (forall y, 0 < ref y) -> 0 < beta ->
  exists K, forall (joint : Y -> R) lambda mu, law joint -> (forall y, 0 < joint y) ->
  0 < lambda <= beta -> joint_stationary joint d ref r beta lambda mu ->
  let t := tilt ref r beta in
  Rabs (CE d t - CE d joint - lambda / beta * chi2 d t) <= K * lambda ^ 2 /\
  Rabs (Jb t ref r beta - Jb joint ref r beta - lambda ^ 2 / (2 * beta) * chi2 d t) <= K * lambda ^ 3.
Proof.
move=> ld lr ref0 b0; set t := tilt ref r beta; set T := \sum_(y : Y) (d y / t y).
exists (3 * T * (chi2 d t + 1) / beta ^ 2) => joint lambda mu lj j0 [l0 lb] foc.
apply: (joint_near lj ld lr ref0 j0 b0 l0 foc lb) => y.
apply: (@term_le_sum _ (fun y => d y / t y)) => z.
by apply: Rle_mult_inv_pos; [apply ld | exact: gibbs_gt0].
Qed.
End LittleSft.
