(** * P5 and P6, as far as they go: the duration of RL, and gradients seen through a kernel

    P5: the slope of the utility U(s) = J(tilt_s) - lambda DeltaL(tilt_s), the reward at its stationary points,
    and the maximiser of the surrogate. P6: the bound on a cosine by its parts inside and outside a set of
    eigenvectors of the kernel, in coordinates of the eigenbasis. *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Foundations SftThenRl.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

Section Duration.
Variable Y : finType.
Implicit Types (d r : Y -> R) (s lambda m M : R).

Theorem utility_slope d r s lambda : law d ->
  is_derive (fun s => E (tilt_at d r s) r - lambda * (CE d (tilt_at d r s) - CE d d)) s
            (Var (tilt_at d r s) r - lambda * (E (tilt_at d r s) r - E d r)).
Proof.
move=> ld; apply: (is_derive_minus (fun s => E (tilt_at d r s) r)
  (fun s => lambda * (CE d (tilt_at d r s) - CE d d))); first exact: reward_derivative.
apply: (is_derive_scal (fun s => CE d (tilt_at d r s) - CE d d)); exact: loss_derivative.
Qed.

(** Bhatia-Davis: the variance is at most (M - mean)(mean - m). *)
Lemma variance_between p r m M : law p -> (forall y, m <= r y <= M) ->
  Var p r <= (M - E p r) * (E p r - m).
Proof.
move=> lp mM; set mu := E p r.
have gap : 0 <= E p (fun y => (M - r y) * (r y - m)).
  by apply: E_ge0 => // y; apply: Rmult_le_pos; move: (mM y); lra.
suff : E p (fun y => (M - r y) * (r y - m)) = (M - mu) * (mu - m) - Var p r by lra.
rewrite /Var -/mu.
rewrite (@E_ext _ p (fun y => (M - r y) * (r y - m))
  (fun y => (M - mu) * (mu - m) + (M + m - 2 * mu) * (r y - mu) - (r y - mu) ^ 2)); last first.
  by move=> y; ring.
by rewrite E_minus E_plus E_const // E_scal E_minus E_const // -/mu; ring.
Qed.

Theorem stationary_reward d r s lambda m M : law d -> (forall y, m <= r y <= M) ->
  Var (tilt_at d r s) r - lambda * (E (tilt_at d r s) r - E d r) = 0 ->
  lambda * (E (tilt_at d r s) r - E d r) <=
    (M - E (tilt_at d r s) r) * (E (tilt_at d r s) r - m).
Proof.
by move=> ld mM e; have := variance_between (gibbs_law (fun y => s * r y) ld) mM;
  rewrite -/(tilt_at d r s); lra.
Qed.
End Duration.

(** The surrogate G(1 - e^{-aT}) - c T^2 is largest where a T e^{aT} = a^2 G/(2c), that is at W(...)/a. *)
Theorem surrogate_maximum a c G best T : 0 < a -> 0 < c -> 0 < best ->
  a * best * exp (a * best) = a ^ 2 * G / (2 * c) ->
  G * (1 - exp (- (a * T))) - c * T ^ 2 <= G * (1 - exp (- (a * best))) - c * best ^ 2.
Proof.
move=> a0 c0 b0 e; have GE : G = 2 * c * best * exp (a * best) / a.
  apply: (Rmult_eq_reg_l (a ^ 2 / (2 * c))); last first.
    by apply: Rgt_not_eq; apply: Rdiv_lt_0_compat; [apply: pow_lt | lra].
  rewrite (_ : a ^ 2 / (2 * c) * G = a ^ 2 * G / (2 * c)); last by field; lra.
  by rewrite -e; field; lra.
set u := a * (best - T).
have atT : G * exp (- (a * T)) = 2 * c * best / a * exp u.
  rewrite GE (_ : _ * exp (- (a * T)) = 2 * c * best / a * (exp (a * best) * exp (- (a * T)))); last by field; lra.
  by rewrite -exp_plus; congr (_ * exp _); rewrite /u; ring.
have atb : G * exp (- (a * best)) = 2 * c * best / a.
  rewrite GE (_ : _ * exp (- (a * best)) = 2 * c * best / a * (exp (a * best) * exp (- (a * best)))); last by field; lra.
  by rewrite -exp_plus Rplus_opp_r exp_0; ring.
have tangent := exp_tangent u.
have k0 : 0 < 2 * c * best / a by apply: Rdiv_lt_0_compat => //; apply: Rmult_lt_0_compat => //; lra.
have := Rmult_le_compat_l _ _ _ (Rlt_le _ _ k0) tangent.
have -> : 2 * c * best / a * (1 + u) = 2 * c * best / a + 2 * c * best * (best - T).
  by rewrite /u; field; lra.
have sq := Rmult_le_pos _ _ (Rlt_le _ _ c0) (pow2_ge_0 (best - T)).
nra.
Qed.

Section Alignment.
Variable I : finType.
Implicit Types (w a b u v : I -> R).

Lemma cauchy_schwarz w a b : (forall i, 0 <= w i) ->
  (\sum_(i : I) (w i * a i * b i)) ^ 2 <=
  (\sum_(i : I) (w i * a i * a i)) * (\sum_(i : I) (w i * b i * b i)).
Proof.
move=> w0; set A := \sum_(i : I) (w i * a i * a i); set B := \sum_(i : I) (w i * a i * b i).
set C := \sum_(i : I) (w i * b i * b i).
have sq x i : 0 <= w i * (x i : R) * x i.
  by rewrite Rmult_assoc; apply: Rmult_le_pos => //; move: (pow2_ge_0 (x i)); rewrite /= Rmult_1_r.
have A0 : 0 <= A by apply: sum_ge0 => i; exact: sq.
have quadratic t : 0 <= t ^ 2 * A - 2 * t * B + C.
  have -> : t ^ 2 * A - 2 * t * B + C = \sum_(i : I) (w i * (t * a i - b i) * (t * a i - b i)).
    by rewrite /A /B /C !collect; apply: sum_ext => i; ring.
  by apply: sum_ge0 => i; exact: (sq (fun i => t * a i - b i)).
case: A0 => [A0|A0].
  have := quadratic (B / A).
  have -> : (B / A) ^ 2 * A - 2 * (B / A) * B + C = (A * C - B ^ 2) / A by field; lra.
  move=> q; have := Rmult_le_pos _ _ q (Rlt_le _ _ A0).
  by rewrite (_ : (A * C - B ^ 2) / A * A = A * C - B ^ 2); [lra | field; lra].
have zero := sum_eq0 (fun i => sq a i) (esym A0).
have -> : B = 0.
  rewrite /B -(sum_0 I); apply: sum_ext => i; move: (zero i) => e.
  have : w i * a i = 0 by case: (Rmult_integral _ _ e) => [//|->]; ring.
  by move=> ->; ring.
rewrite -A0; lra.
Qed.

(** x^T K y over a set of eigenvectors, in coordinates of the eigenbasis. *)
Definition over (S : pred I) w u v := \sum_(i : I) ((if S i then w i else 0) * u i * v i).

Lemma over_split (S : pred I) w u v :
  \sum_(i : I) (w i * u i * v i) = over S w u v + over (predC S) w u v.
Proof. by rewrite /over sum_plus; apply: sum_ext => i /=; case: (S i) => /=; ring. Qed.

Theorem cosine_inside_and_outside (S : pred I) w u v : (forall i, 0 <= w i) ->
  0 < over S w u u -> 0 < over S w v v ->
  let K := fun x y : I -> R => \sum_(i : I) (w i * x i * y i) in
  let tau := fun x : I -> R => over (predC S) w x x / K x x in
  Rabs (K u v) / sqrt (K u u * K v v) <=
  sqrt ((1 - tau u) * (1 - tau v)) * (Rabs (over S w u v) / sqrt (over S w u u * over S w v v))
  + sqrt (tau u * tau v).
Proof.
move=> w0 uu vv K tau.
have out0 x : 0 <= over (predC S) w x x.
  apply: sum_ge0 => i; rewrite Rmult_assoc; apply: Rmult_le_pos; first by case: (predC S i); [|lra].
  by move: (pow2_ge_0 (x i)); rewrite /= Rmult_1_r.
have KE x y : K x y = over S w x y + over (predC S) w x y by exact: over_split.
have Ku : 0 < K u u by rewrite KE; move: (out0 u); lra.
have Kv : 0 < K v v by rewrite KE; move: (out0 v); lra.
have KK := Rmult_lt_0_compat _ _ Ku Kv; have sK := sqrt_lt_R0 _ KK.
have ii := Rmult_lt_0_compat _ _ uu vv; have si := sqrt_lt_R0 _ ii.
have oo := Rmult_le_pos _ _ (out0 u) (out0 v).
have inside : sqrt ((1 - tau u) * (1 - tau v)) = sqrt (over S w u u * over S w v v) / sqrt (K u u * K v v).
  rewrite -sqrt_div_alt //; congr sqrt.
  have e x : 0 < K x x -> 1 - tau x = over S w x x / K x x.
    by move=> k; rewrite /tau; apply: (Rmult_eq_reg_r (K x x)); [field_simplify; [rewrite KE; ring | lra | lra] | lra].
  by rewrite !e //; field; lra.
have outside : sqrt (tau u * tau v) =
    sqrt (over (predC S) w u u * over (predC S) w v v) / sqrt (K u u * K v v).
  by rewrite -sqrt_div_alt //; congr sqrt; rewrite /tau; field; lra.
have cs : Rabs (over (predC S) w u v) <= sqrt (over (predC S) w u u * over (predC S) w v v).
  rewrite -sqrt_Rsqr_abs; apply: sqrt_le_1_alt; rewrite Rsqr_pow2; apply: cauchy_schwarz => i.
  by case: (predC S i); [|lra].
rewrite inside outside KE.
rewrite (_ : _ / _ * (_ / _) = Rabs (over S w u v) / sqrt (K u u * K v v)); last by field; lra.
rewrite -Rdiv_plus_distr; apply: Rmult_le_compat_r; first by apply/Rlt_le/Rinv_0_lt_compat.
by apply: (Rle_trans _ _ _ (Rabs_triang _ _)); lra.
Qed.
End Alignment.
