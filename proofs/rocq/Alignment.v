(** * P6: gradients seen through a kernel

    The bound on a cosine by its parts inside and outside a set of eigenvectors of the kernel, in coordinates of
    the eigenbasis. *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

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
