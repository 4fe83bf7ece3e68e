(** * Finite sums of real numbers

    A response type is a MathComp [finType] (a finite set that can be enumerated), a policy is a
    function from it to [R]. This file gives sums over such a set, with the handful of rules that
    the proofs use; nothing here is specific to policies. *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype seq fintype bigop.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

(** Real addition is a commutative monoid: MathComp's theory of iterated operators applies. *)
Canonical Rplus_monoid := Monoid.Law (fun a b c => esym (Rplus_assoc a b c)) Rplus_0_l Rplus_0_r.
Canonical Rplus_comoid := Monoid.ComLaw Rplus_comm.

(** [sum f] is f added up over the whole type, written [\sum_(y : Y) f y]. *)
Definition sum (Y : finType) (f : Y -> R) : R := \big[Rplus/0]_(y : Y) f y.

Notation "\sum_ ( y : Y ) F" := (sum (fun y : Y => F)) : R_scope.

Section Sums.
Variable Y : finType.
Implicit Types (f g : Y -> R) (c : R).

Lemma sum_ext f g : (forall y, f y = g y) -> sum f = sum g.
Proof. by move=> fg; apply: eq_bigr => y _. Qed.

(** The rules that collect a linear combination of sums into one sum. *)
Lemma sum_plus f g : sum f + sum g = \sum_(y : Y) (f y + g y).
Proof. by rewrite /sum big_split. Qed.

Lemma sum_scal c f : c * sum f = \sum_(y : Y) (c * f y).
Proof.
by apply: (big_morph (fun s => c * s)) => [a b|]; [exact: Rmult_plus_distr_l | exact: Rmult_0_r].
Qed.

Lemma sum_opp f : - sum f = \sum_(y : Y) (- f y).
Proof. by apply: (big_morph Ropp) => [a b|]; [exact: Ropp_plus_distr | exact: Ropp_0]. Qed.

Lemma sum_minus f g : sum f - sum g = \sum_(y : Y) (f y - g y).
Proof. by rewrite /Rminus sum_opp sum_plus. Qed.

Lemma sum_div f c : sum f / c = \sum_(y : Y) (f y / c).
Proof. by rewrite /Rdiv Rmult_comm sum_scal; apply: sum_ext => y; rewrite Rmult_comm. Qed.

Definition collect := (sum_plus, sum_minus, sum_opp, sum_div, sum_scal).

Lemma sum_0 : \sum_(y : Y) 0 = 0.
Proof. exact: big1. Qed.

Lemma sum_ge0 f : (forall y, 0 <= f y) -> 0 <= sum f.
Proof. by move=> f0; apply: (big_ind (fun s => 0 <= s)) => [|a b|y _ //]; lra. Qed.

Lemma sum_le f g : (forall y, f y <= g y) -> sum f <= sum g.
Proof.
move=> fg; suff: 0 <= sum g - sum f by lra.
by rewrite sum_minus; apply: sum_ge0 => y; move: (fg y); lra.
Qed.

Lemma sum_split1 f y : sum f = f y + \big[Rplus/0]_(z | z != y) f z.
Proof. by rewrite /sum (bigD1 y). Qed.

(** One term of a sum of nonnegative terms is at most the sum. *)
Lemma term_le_sum f y : (forall z, 0 <= f z) -> f y <= sum f.
Proof.
move=> f0; rewrite (sum_split1 f y).
suff: 0 <= \big[Rplus/0]_(z | z != y) f z by lra.
by apply: (big_ind (fun s => 0 <= s)) => [|a b|z _ //]; lra.
Qed.

Lemma sum_gt0 f y : (forall z, 0 <= f z) -> 0 < f y -> 0 < sum f.
Proof. by move=> f0 fy; move: (term_le_sum y f0); lra. Qed.

(** A sum of nonnegative terms vanishes only if every term does. *)
Lemma sum_eq0 f : (forall y, 0 <= f y) -> sum f = 0 -> forall y, f y = 0.
Proof. by move=> f0 s0 y; move: (term_le_sum y f0) (f0 y); lra. Qed.

(** Termwise [<=] with equal sums is termwise [=]. *)
Lemma sum_le_eq f g : (forall y, f y <= g y) -> sum f = sum g -> forall y, f y = g y.
Proof.
move=> fg s y; suff: g y - f y = 0 by lra.
apply: (@sum_eq0 (fun y => g y - f y)) => [z|]; first by move: (fg z); lra.
by rewrite -sum_minus; lra.
Qed.

Lemma two_terms_le_sum f y z : y != z -> (forall w, 0 <= f w) -> f y + f z <= sum f.
Proof.
move=> neq f0; rewrite (sum_split1 f y) big_mkcond; apply: Rplus_le_compat_l.
have := @term_le_sum (fun w => if w != y then f w else 0) z.
by rewrite eq_sym neq; apply=> w; case: (w != y); [exact: f0 | lra].
Qed.

(** A function on a finite type has a largest value. *)
Lemma exists_max f (y0 : Y) : exists y, forall z, f z <= f y.
Proof.
suff [y h] : exists y, forall z, z \in index_enum Y -> f z <= f y.
  by exists y => z; apply: h; rewrite mem_index_enum.
elim: (index_enum Y) => [|x l [y h]]; first by exists y0.
case: (Rle_lt_dec (f x) (f y)) => c.
  by exists y => z; rewrite in_cons => /orP[/eqP->|/h].
exists x => z; rewrite in_cons => /orP[/eqP->|/h le]; first exact: Rle_refl.
exact: Rle_trans le (Rlt_le _ _ c).
Qed.

End Sums.

Lemma sum_exchange (X Y : finType) (f : X -> Y -> R) :
  \sum_(x : X) \sum_(y : Y) f x y = \sum_(y : Y) \sum_(x : X) f x y.
Proof. exact: exchange_big. Qed.

Lemma sum_pair (X Y : finType) (f : X * Y -> R) :
  \sum_(z : prod_finType X Y) f z = \sum_(x : X) \sum_(y : Y) f (x, y).
Proof. by rewrite /sum pair_bigA; apply: eq_bigr => -[]. Qed.

Lemma sum_bool (f : bool -> R) : \sum_(b : bool_finType) f b = f true + f false.
Proof. by rewrite /sum big_bool. Qed.

Lemma sum_unit (f : unit -> R) : \sum_(u : unit_finType) f u = f tt.
Proof. by rewrite /sum (bigD1 tt) //= big1; [ring | case]. Qed.
