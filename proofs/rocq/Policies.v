(** * Policies, losses and rewards on a finite response set

    All definitions of the development are here (prompts: Averages.v; sequences: ChainRule.v). Real
    arithmetic is exact, logarithms are natural, so losses and divergences are in nats.

    Two conventions of Coq's standard library matter. [ln 0 = 0], so a term [p y * ln (p y / q y)]
    with [p y = 0] is 0, as usual. A KL divergence that ought to be infinite would come out finite:
    every theorem about [KL p q] or [CE p q] therefore assumes [p ≪ q] ("q y = 0 implies
    p y = 0"), which holds for every p when q has full support. *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype seq fintype bigop.
From NonDecoupling Require Import Sums.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

Section Policies.
Variable Y : finType.
Implicit Types (p q d ref : Y -> R) (r f theta : Y -> R) (beta s : R).

(** [p] is a probability law (a policy, or a data law). *)
Definition law p := (forall y, 0 <= p y) /\ \sum_(y : Y) p y = 1.

(** [p ≪ q]: p puts no mass where q puts none. *)
Definition dominated p q := forall y, q y = 0 -> p y = 0.

(** Expectation and variance of f under p. The raw reward is J(p) = [E p r]. *)
Definition E p f := \sum_(y : Y) p y * f y.
Definition Var p f := E p (fun y => (f y - E p f) ^ 2).

(** KL divergence, SFT loss (cross entropy) of p on data d, entropy, total variation. *)
Definition KL p q := \sum_(y : Y) p y * ln (p y / q y).
Definition CE d p := - \sum_(y : Y) d y * ln (p y).
Definition entropy d := CE d d.
Definition TV p q := (\sum_(y : Y) Rabs (p y - q y)) / 2.

(** [gibbs ref f] is ref reweighted by e^f and normalised. *)
Definition gibbs ref f y := ref y * exp (f y) / E ref (fun z => exp (f z)).

(** The partition function, and the tilt: the exact optimum of KL-regularised RL. [tilt_at] is the
    same policy in terms of the time s = 1/beta. *)
Definition Z ref r beta := E ref (fun y => exp (r y / beta)).
Definition tilt ref r beta := gibbs ref (fun y => r y / beta).
Definition tilt_at ref r s := gibbs ref (fun y => s * r y).

(** Regularised reward: J_b(p) = E_p r - beta KL(p‖ref). *)
Definition Jb p ref r beta := E p r - beta * KL p ref.

(** Softmax policy with logits theta. *)
Definition softmax theta y := exp (theta y) / \sum_(z : Y) exp (theta z).

End Policies.

Notation "p ≪ q" := (dominated p q) (at level 70) : R_scope.

(** ** Expectations *)
Section Expectation.
Variable Y : finType.
Implicit Types (p q ref : Y -> R) (f g : Y -> R) (c : R).

Lemma E_ext p f g : (forall y, f y = g y) -> E p f = E p g.
Proof. by move=> fg; apply: sum_ext => y; rewrite fg. Qed.

Lemma E_law_ext p q f : (forall y, p y = q y) -> E p f = E q f.
Proof. by move=> pq; apply: sum_ext => y; rewrite pq. Qed.

Lemma E_plus p f g : E p (fun y => f y + g y) = E p f + E p g.
Proof. by rewrite /E collect; apply: sum_ext => y; ring. Qed.

Lemma E_minus p f g : E p (fun y => f y - g y) = E p f - E p g.
Proof. by rewrite /E collect; apply: sum_ext => y; ring. Qed.

Lemma E_scal p c f : E p (fun y => c * f y) = c * E p f.
Proof. by rewrite /E collect; apply: sum_ext => y; ring. Qed.

Lemma E_div p c f : E p (fun y => f y / c) = E p f / c.
Proof. by rewrite /E collect; apply: sum_ext => y; rewrite /Rdiv; ring. Qed.

Lemma E_const p c : law p -> E p (fun _ => c) = c.
Proof.
move=> [_ p1]; rewrite -[RHS]Rmult_1_r -[in RHS]p1 /E collect.
by apply: sum_ext => y; ring.
Qed.

Lemma E_le p f g : law p -> (forall y, f y <= g y) -> E p f <= E p g.
Proof. by move=> [p0 _] fg; apply: sum_le => y; exact: Rmult_le_compat_l. Qed.

Lemma E_ge0 p f : law p -> (forall y, 0 <= f y) -> 0 <= E p f.
Proof. by move=> [p0 _] f0; apply: sum_ge0 => y; exact: Rmult_le_pos. Qed.

Lemma E_bounds p f m M : law p -> (forall y, m <= f y <= M) -> m <= E p f <= M.
Proof.
by move=> lp mM; rewrite -[X in X <= _ <= _](E_const m lp) -[X in _ <= _ <= X](E_const M lp);
   split; apply: E_le => // y; case: (mM y).
Qed.

Lemma E_exp_gt0 p f : law p -> 0 < E p (fun y => exp (f y)).
Proof.
move=> lp; set b := \sum_(y : Y) Rabs (f y).
apply: (Rlt_le_trans _ (exp (- b))); first exact: exp_pos.
rewrite -(E_const (exp (- b)) lp); apply: E_le => // y.
have : - b <= f y.
  have := term_le_sum y (fun z => Rabs_pos (f z)).
  by rewrite -/b; move: (Rle_abs (- f y)); rewrite Rabs_Ropp; lra.
by case=> [lt|->]; [apply/Rlt_le/exp_increasing | lra].
Qed.

(** Jensen for the square: (E f)^2 <= E f^2. *)
Lemma E_square p f : law p -> E p f ^ 2 <= E p (fun y => f y ^ 2).
Proof.
move=> lp; set e := E p f.
have : 0 <= E p (fun y => (f y - e) ^ 2) by apply: E_ge0 => // y; exact: pow2_ge_0.
rewrite (@E_ext p _ (fun y => (f y ^ 2 - 2 * e * f y) + e ^ 2)); last by move=> y; ring.
by rewrite E_plus E_minus E_scal E_const // -/e; lra.
Qed.

Lemma Var_moments p f : law p -> Var p f = E p (fun y => f y ^ 2) - E p f ^ 2.
Proof.
move=> lp; rewrite /Var; set e := E p f.
rewrite (@E_ext p _ (fun y => (f y ^ 2 - 2 * e * f y) + e ^ 2)); last by move=> y; ring.
by rewrite E_plus E_minus E_scal E_const // -/e; ring.
Qed.

Lemma Var_ge0 p f : law p -> 0 <= Var p f.
Proof. by move=> lp; apply: E_ge0 => // y; exact: pow2_ge_0. Qed.

End Expectation.

(** ** Supports *)
Section Support.
Variable Y : finType.
Implicit Types (p q ref : Y -> R).

Lemma law_case p y : law p -> p y = 0 \/ 0 < p y.
Proof. by case=> p0 _; move: (p0 y); lra. Qed.

Lemma law_support p : law p -> exists y, 0 < p y.
Proof.
move=> lp; apply: Classical_Prop.NNPP => none.
suff: sum p = 0 by case: lp => _ ->; lra.
rewrite -(sum_0 Y); apply: sum_ext => y.
by case: (law_case y lp) => // py; case: none; exists y.
Qed.

Lemma dominated_pos p q y : law q -> p ≪ q -> 0 < p y -> 0 < q y.
Proof. by move=> lq pq py; case: (law_case y lq) => // /pq; lra. Qed.

Lemma dominated_refl p : p ≪ p.
Proof. by []. Qed.

Lemma dominated_trans q p ref : p ≪ q -> q ≪ ref -> p ≪ ref.
Proof. by move=> pq qr y /qr /pq. Qed.

Lemma full_dominates p q : (forall y, 0 < q y) -> p ≪ q.
Proof. by move=> q0 y; move: (q0 y); lra. Qed.

End Support.
Global Hint Resolve dominated_refl : core.
