(** * When decoupling is possible (D1), and the joint optimum (J2) *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Foundations Concentration SftThenRl.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

(** ** D1: exact decoupling *)
Section Decoupling.
Variable X : finType.            (* prompts *)
Variable Y : X -> finType.       (* responses to each prompt *)
Implicit Types (q_sft q_rl : X -> R) (d r : forall x, Y x -> R) (beta : R).

(** The RL optimum that equals ref = d on the prompts RL never sees. *)
Definition rl_optimum q_rl d r beta x : Y x -> R :=
  if Req_EM_T (q_rl x) 0 then d x else tilt (d x) (r x) beta.

Lemma rl_optimum_unseen q_rl d r beta x : q_rl x = 0 -> @rl_optimum q_rl d r beta x = d x.
Proof. by move=> q0; rewrite /rl_optimum; destruct (Req_EM_T (q_rl x) 0). Qed.

Lemma rl_optimum_seen q_rl d r beta x : 0 < q_rl x ->
  @rl_optimum q_rl d r beta x = tilt (d x) (r x) beta.
Proof. by move=> q0; rewrite /rl_optimum; destruct (Req_EM_T (q_rl x) 0); [lra|]. Qed.

Theorem decoupling_iff q_sft q_rl d r beta : law q_sft -> law q_rl -> (forall x, law (d x)) ->
  0 < beta ->
  E q_sft (fun x => CE (d x) (@rl_optimum q_rl d r beta x) - CE (d x) (d x)) = 0 <->
  (forall x, 0 < q_sft x -> 0 < q_rl x -> forall y z, 0 < d x y -> 0 < d x z -> r x y = r x z).
Proof.
move=> ls lq ld b0; set f := fun x => CE (d x) _ - CE (d x) (d x).
have f0 x : 0 <= f x.
  rewrite /f; case: (law_case x lq) => qx; first by rewrite rl_optimum_unseen //; lra.
  by rewrite rl_optimum_seen //; case: (coupling (r x) (ld x) b0).
split=> [e x sx qx|h].
  have /(_ x)/Rmult_integral[|] := sum_eq0 (fun x => Rmult_le_pos _ _ (proj1 ls x) (f0 x)) e;
    first by lra.
  by rewrite /f rl_optimum_seen //; case: (coupling (r x) (ld x) b0) => _ [].
rewrite -(sum_0 X); apply: sum_ext => x.
case: (law_case x ls) => [->|sx]; first by ring.
rewrite /f; case: (law_case x lq) => qx; first by rewrite rl_optimum_unseen //; ring.
by rewrite rl_optimum_seen //; case: (coupling (r x) (ld x) b0) => _ [_ ->]; [ring | exact: h].
Qed.

(** Disjoint prompts decouple a tabular policy. *)
Theorem disjoint_prompts_decouple q_sft q_rl d r beta : law q_sft -> law q_rl ->
  (forall x, law (d x)) ->
  0 < beta -> (forall x, q_sft x = 0 \/ q_rl x = 0) ->
  E q_sft (fun x => CE (d x) (@rl_optimum q_rl d r beta x) - CE (d x) (d x)) = 0.
Proof. by move=> ls lq ld b0 dis; apply/decoupling_iff => // x; case: (dis x) => ->; lra. Qed.

(** [rl_optimum] does maximise the regularised reward of the prompts RL sees. *)
Theorem rl_optimum_is_optimal q_rl d r beta (p : forall x, Y x -> R) : law q_rl ->
  (forall x, law (d x)) -> (forall x, law (p x)) -> (forall x, p x ≪ d x) -> 0 < beta ->
  E q_rl (fun x => Jb (p x) (d x) (r x) beta) <=
  E q_rl (fun x => Jb (@rl_optimum q_rl d r beta x) (d x) (r x) beta).
Proof.
move=> lq ld lp pd b0; apply: sum_le => x; case: (law_case x lq) => [->|qx]; first by lra.
apply: Rmult_le_compat_l; first by lra.
rewrite rl_optimum_seen // regularised_reward_value //.
by case: (regularised_reward_max (r x) (lp x) (ld x) (pd x) b0).
Qed.

End Decoupling.

(** ** J2: no free order *)
Section JointOptimum.
Variable Y : finType.
Implicit Types (p joint d ref : Y -> R) (r : Y -> R) (beta lambda mu : R).

(** The joint objective F(p) = J_b(p) - lambda CE(d,p). *)
Definition joint_objective p d ref r beta lambda := Jb p ref r beta - lambda * CE d p.

(** The first-order condition of J1: with multiplier mu, at every response. *)
Definition joint_stationary joint d ref r beta lambda mu :=
  forall y, r y - beta * ln (joint y / ref y) + lambda * d y / joint y = mu.

Theorem joint_gap p joint d ref r beta lambda mu : law p -> law joint -> law d ->
  (forall y, 0 < ref y) -> (forall y, 0 < joint y) -> d ≪ p ->
  joint_stationary joint d ref r beta lambda mu ->
  joint_objective joint d ref r beta lambda - joint_objective p d ref r beta lambda =
  beta * KL p joint + lambda * E d (fun y => p y / joint y - 1 - ln (p y / joint y)).
Proof.
move=> lp lj ld r0 j0 dp st.
rewrite -[RHS]Rplus_0_r -(Rmult_0_r mu) -(sum_law_difference lj lp).
rewrite /joint_objective /Jb /CE /KL /E !collect; apply: sum_ext => y.
rewrite -(st y); have jy := j0 y; have ry := r0 y.
case: (law_case y lp) => [py|py].
  by rewrite py (dp y py) !(ln_quotient jy ry); field; lra.
by rewrite !ln_quotient //; field; lra.
Qed.

Theorem joint_optimal p joint d ref r beta lambda mu : law p -> law joint -> law d ->
  (forall y, 0 < ref y) -> (forall y, 0 < joint y) -> d ≪ p -> 0 < beta -> 0 <= lambda ->
  joint_stationary joint d ref r beta lambda mu ->
  Jb p ref r beta - Jb joint ref r beta <= lambda * (CE d p - CE d joint).
Proof.
move=> lp lj ld r0 j0 dp b0 l0 st; have := joint_gap lp lj ld r0 j0 dp st.
have k0 := Rmult_le_pos _ _ (Rlt_le _ _ b0) (KL_ge0 lp lj (@full_dominates _ p joint j0)).
suff: 0 <= lambda * E d (fun y => p y / joint y - 1 - ln (p y / joint y)).
  by rewrite /joint_objective; lra.
apply: Rmult_le_pos => //; apply: sum_ge0 => y.
case: (law_case y ld) => [->|dy]; first by lra.
apply: Rmult_le_pos; first by lra.
by have := ln_le_sub1 (Rdiv_lt_0_compat _ _ (dominated_pos lp dp dy) (j0 y)); lra.
Qed.

(** J1. The joint optimum exists. In the logarithm u of the probability, the first-order condition reads
    a e^{-u} - beta u = c: it has a solution, which moves by at most |c - c'|/beta. *)
Lemma first_order_root (a beta c : R) : 0 <= a -> 0 < beta -> { u | a * exp (- u) - beta * u = c }.
Proof.
move=> a0 b0; set k := fun u => a * exp (- u) - beta * u.
have cont : Ranalysis1.continuity k.
  move=> u; apply/continuity_pt_filterlim; apply: ex_derive_continuous.
  by rewrite /k; auto_derive.
set lo := - (Rabs c / beta); set hi := (a + Rabs c) / beta.
have i0 := Rinv_0_lt_compat _ b0; have c0 := Rabs_pos c.
have lo0 : 0 <= Rabs c / beta by exact: Rle_mult_inv_pos.
have hi0 : 0 <= hi by apply: Rle_mult_inv_pos => //; lra.
have klo : c <= k lo.
  have e0 := Rmult_le_pos _ _ a0 (Rlt_le _ _ (exp_pos (- lo))).
  rewrite /k; have -> : beta * lo = - Rabs c by rewrite /lo; field; lra.
  by move: (Rle_abs c); lra.
have khi : k hi <= c.
  have e1 : exp (- hi) <= 1 by rewrite -exp_0; case: hi0 => [h|<-];
    [apply/Rlt_le/exp_increasing | rewrite Ropp_0]; lra.
  have := Rmult_le_compat_l _ _ _ a0 e1.
  rewrite /k; have -> : beta * hi = a + Rabs c by rewrite /hi; field; lra.
  by move: (Rle_abs (- c)); rewrite Rabs_Ropp; lra.
have [u [_ ku]] := IVT_gen k lo hi c cont ltac:(rewrite Rmin_right ?Rmax_left; lra).
by exists u.
Qed.

Lemma first_order_root_stable (a beta u u' : R) : 0 <= a -> 0 < beta ->
  beta * Rabs (u - u') <= Rabs ((a * exp (- u) - beta * u) - (a * exp (- u') - beta * u')).
Proof.
move=> a0 b0.
have half x y : y <= x -> beta * (x - y) <= (a * exp (- y) - beta * y) - (a * exp (- x) - beta * x).
  move=> yx; have e : exp (- x) <= exp (- y).
    by case: yx => [h|->]; [apply/Rlt_le/exp_increasing | apply: Rle_refl]; lra.
  by have := Rmult_le_compat_l _ _ _ a0 e; lra.
case: (Rle_lt_dec u' u) => h.
  rewrite Rabs_pos_eq; last by lra.
  apply: (Rle_trans _ _ _ (half _ _ h)).
  by rewrite -Rabs_Ropp; apply: (Rle_trans _ _ _ _ (Rle_abs _)); lra.
rewrite Rabs_minus_sym Rabs_pos_eq; last by lra.
by apply: (Rle_trans _ _ _ (half _ _ (Rlt_le _ _ h))); apply: Rle_abs.
Qed.

Theorem joint_exists d ref r beta lambda : law d -> (forall y, 0 < ref y) -> 0 < beta -> 0 <= lambda ->
  exists joint mu, law joint /\ (forall y, 0 < joint y)
    /\ joint_stationary joint d ref r beta lambda mu.
Proof.
move=> ld r0 b0 l0; set a := fun y => lambda * d y.
have a0 y : 0 <= a y by apply: Rmult_le_pos => //; apply ld.
set c := fun y => r y + beta * ln (ref y).
set u := fun y mu => proj1_sig (first_order_root (mu - c y) (a0 y) b0).
have uE y mu : a y * exp (- u y mu) - beta * u y mu = mu - c y by rewrite /u; case: first_order_root.
set S := fun mu => \sum_(y : Y) exp (u y mu).
have cont : Ranalysis1.continuity S.
  move=> mu; apply: (continuity_sum (f := fun y mu => exp (u y mu))) => y;
    apply: (continuity_pt_comp (u y) exp); last first.
    exact/derivable_continuous_pt/derivable_pt_exp.
  move=> e e0; exists (beta * e); split; first exact: Rmult_lt_0_compat.
  move=> mu' [_]; rewrite /dist /= /R_dist => near.
  have := first_order_root_stable (u y mu') (u y mu) (a0 y) b0; rewrite !uE.
  rewrite (_ : mu' - c y - (mu - c y) = mu' - mu); last by ring.
  by move=> le; apply: (Rmult_lt_reg_l beta) => //; lra.
have [y0 _] := law_support ld.
set lo := c y0 + a y0; have Slo : 1 <= S lo.
  have -> : 1 = exp (u y0 lo).
    suff -> : u y0 lo = 0 by rewrite exp_0.
    have := first_order_root_stable (u y0 lo) 0 (a0 y0) b0; rewrite uE Ropp_0 exp_0.
    rewrite (_ : _ - _ - _ = 0) ?Rabs_R0 ?Rminus_0_r; last by rewrite /lo; ring.
    move=> h; apply: Rabs_eq_0; apply: Rle_antisym (Rabs_pos _).
    by apply: (Rmult_le_reg_l beta) => //; lra.
  by apply: (@term_le_sum _ (fun y => exp (u y lo))) => z; apply/Rlt_le/exp_pos.
set n := \sum_(y : Y) 1.
have n1 : 1 <= n by apply: (@term_le_sum _ (fun _ : Y => 1) y0) => z; lra.
set b := fun y => c y + a y * n + beta * ln n.
set hi := \sum_(y : Y) Rabs (b y); have Shi : S hi <= 1.
  have small y : exp (u y hi) <= / n.
    apply: Rnot_lt_le => big.
    have un : - ln n < u y hi.
      by apply: exp_lt_inv; rewrite exp_Ropp exp_ln //; lra.
    have bh : b y <= hi.
      by apply: (Rle_trans _ _ _ (Rle_abs _)); apply: (@term_le_sum _ (fun y => Rabs (b y))) => z;
        exact: Rabs_pos.
    have e : exp (- u y hi) <= n.
      by rewrite -[X in _ <= X](exp_ln n); [apply/Rlt_le/exp_increasing|]; lra.
    have := Rmult_le_compat_l _ _ _ (a0 y) e; have := Rmult_lt_compat_l _ _ _ b0 un.
    by have := uE y hi; rewrite /b in bh; lra.
  apply: (Rle_trans _ (\sum_(y : Y) (/ n * 1))).
    by apply: sum_le => y; rewrite Rmult_1_r.
  by rewrite -sum_scal -/n Rinv_l; lra.
have [mu [_ Smu]] := IVT_gen S lo hi 1 cont
  ltac:(split; [apply: Rle_trans (Rmin_r _ _) Shi | apply: Rle_trans Slo (Rmax_l _ _)]).
exists (fun y => exp (u y mu)), mu; split; [|split] => [|y|y].
- by split=> [y|//]; apply/Rlt_le/exp_pos.
- exact: exp_pos.
- rewrite ln_quotient ?ln_exp //; last exact: exp_pos.
  have := uE y mu; rewrite exp_Ropp /a /c /Rdiv; lra.
Qed.

(** ... and it is the only maximiser of F. *)
Theorem joint_unique p joint d ref r beta lambda mu : law p -> law joint -> law d ->
  (forall y, 0 < ref y) -> (forall y, 0 < joint y) -> d ≪ p -> 0 < beta -> 0 <= lambda ->
  joint_stationary joint d ref r beta lambda mu ->
  joint_objective p d ref r beta lambda <= joint_objective joint d ref r beta lambda /\
  (joint_objective p d ref r beta lambda = joint_objective joint d ref r beta lambda <->
   forall y, p y = joint y).
Proof.
move=> lp lj ld r0 j0 dp b0 l0 st; have gap := joint_gap lp lj ld r0 j0 dp st.
have dom := @full_dominates _ p joint j0.
have k0 := Rmult_le_pos _ _ (Rlt_le _ _ b0) (KL_ge0 lp lj dom).
have z0 : 0 <= lambda * E d (fun y => p y / joint y - 1 - ln (p y / joint y)).
  apply: Rmult_le_pos => //; apply: sum_ge0 => y.
  case: (law_case y ld) => [->|dy]; first by lra.
  apply: Rmult_le_pos; first by lra.
  by have := ln_le_sub1 (Rdiv_lt_0_compat _ _ (dominated_pos lp dp dy) (j0 y)); lra.
split; first by lra.
split=> [e|e]; last first.
  rewrite /joint_objective /Jb (E_law_ext r e) (KL_ext e (fun y => erefl (ref y))).
  by rewrite (CE_ext d e).
by apply/KL_eq0 => //; apply: (Rmult_eq_reg_l beta); lra.
Qed.

End JointOptimum.
