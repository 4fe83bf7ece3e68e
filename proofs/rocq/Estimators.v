(** * Which divergence a KL estimator trains (T1) *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Foundations SftThenRl Landscape.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

Section Estimators.
Variable Y : finType.
Variables (ref theta g : Y -> R).
Hypotheses (inh : inhabited Y) (ref0 : forall y, 0 < ref y).

(** The policy at the logits theta + eta g, and the score in the direction g. *)
Let q eta := softmax (fun z => theta z + eta * g z).
Let p := softmax theta.
Let S y := g y - E p g.

Lemma softmax_at_0 y : q 0 y = p y.
Proof. by rewrite /q /p /softmax; congr (_ / _); [congr exp; ring | apply: sum_ext => z; congr exp; ring]. Qed.

Lemma score y : is_derive (fun eta => ln (q eta y)) 0 (S y).
Proof.
have lp := softmax_law theta inh.
have lnq eta : ln (q eta y) = ln (p y) + eta * g y - ln (E p (fun z => exp (eta * g z))).
  by rewrite /q softmax_step ln_gibbs //; exact: softmax_gt0.
apply: (is_derive_ext _ _ _ _ (fun eta => esym (lnq eta))).
have dz := is_derive_partition p g 0.
rewrite (_ : E p (fun y => g y * exp (0 * g y)) = E p g) in dz;
  last by apply: E_ext => z; rewrite Rmult_0_l exp_0; ring.
set P := fun eta => E p (fun z => exp (eta * g z)) in dz *.
have P0 : P 0 = 1.
  by rewrite -(E_const 1 lp); apply: E_ext => z; rewrite Rmult_0_l exp_0.
have dU := is_derive_unique _ _ _ dz.
change (is_derive (fun eta => ln (p y) + eta * g y - ln (P eta)) 0 (S y)).
have exP : ex_derive P 0 by eexists; exact: dz.
by auto_derive; [rewrite P0; split=> //; lra | rewrite P0 dU /S; field].
Qed.

(** The expected score is 0: the expected gradient of k1 = u at held samples. *)
Lemma expected_score : E p S = 0.
Proof. by rewrite /S E_minus E_const; [ring | exact: softmax_law]. Qed.

Lemma log_ratio_derivative y : is_derive (fun eta => ln (q eta y / ref y)) 0 (S y).
Proof.
apply: (is_derive_ext (fun eta => ln (q eta y) - ln (ref y))) => [eta|].
  by rewrite ln_quotient //; exact: softmax_gt0.
have := score y; set L := fun eta => ln (q eta y) => dL.
have exL : ex_derive L 0 by eexists; exact: dL.
change (is_derive (fun eta => L eta - ln (ref y)) 0 (S y)).
by auto_derive => //; rewrite (is_derive_unique _ _ _ dL); ring.
Qed.

Lemma probability_derivative y : is_derive (fun eta => q eta y) 0 (p y * S y).
Proof.
have := score y; set L := fun eta => ln (q eta y) => dL.
have exL : ex_derive L 0 by eexists; exact: dL.
apply: (is_derive_ext (fun eta => exp (L eta))) => [eta|]; first by rewrite exp_ln //; exact: softmax_gt0.
auto_derive => //; rewrite (is_derive_unique _ _ _ dL) /L softmax_at_0 exp_ln; [ring | exact: softmax_gt0].
Qed.

Let u y := ln (p y / ref y).

(** At a held sample y the gradient of f(u) is f'(u) times the score. *)
Lemma held_gradient (f f' : R -> R) y : (forall x, is_derive f x (f' x)) ->
  is_derive (fun eta => f (ln (q eta y / ref y))) 0 (f' (u y) * S y).
Proof.
move=> df; have := log_ratio_derivative y; set L := fun eta => ln (q eta y / ref y) => dL.
have exL : ex_derive L 0 by eexists; exact: dL.
have L0 : L 0 = u y by rewrite /L softmax_at_0.
have := is_derive_comp f L 0 _ _ (df (L 0)) dL.
by rewrite L0 /scal /= /mult /= Rmult_comm.
Qed.

(** With the differentiable ratio in front: (f + f')(u) times the score. *)
Lemma ratio_gradient (f f' : R -> R) y : (forall x, is_derive f x (f' x)) ->
  is_derive (fun eta => q eta y / p y * f (ln (q eta y / ref y))) 0 ((f (u y) + f' (u y)) * S y).
Proof.
move=> df; have := held_gradient y df; set F := fun eta => f (ln (q eta y / ref y)) => dF.
have dq := probability_derivative y; set Q := fun eta => q eta y in dq.
have exF : ex_derive F 0 by eexists; exact: dF.
have exQ : ex_derive Q 0 by eexists; exact: dq.
have p0 : 0 < p y by exact: softmax_gt0.
change (is_derive (fun eta => Q eta / p y * F eta) 0 ((f (u y) + f' (u y)) * S y)).
auto_derive; first by [].
rewrite (is_derive_unique _ _ _ dF) (is_derive_unique _ _ _ dq) /Q /F softmax_at_0 -/(u y).
by field; lra.
Qed.

(** grad E_p f(u) = E_p[(f + f')(u) grad log p]. *)
Theorem expectation_gradient (f f' : R -> R) : (forall x, is_derive f x (f' x)) ->
  is_derive (fun eta => E (q eta) (fun y => f (ln (q eta y / ref y)))) 0
            (E p (fun y => (f (u y) + f' (u y)) * S y)).
Proof.
move=> df; apply: (is_derive_ext (fun eta => \sum_(y : Y)
  (p y * (q eta y / p y * f (ln (q eta y / ref y)))))) => [eta|].
  apply: sum_ext => y; have p0 : 0 < p y by exact: softmax_gt0.
  by field; lra.
apply: (@is_derive_sum _ (fun y eta => p y * (q eta y / p y * f (ln (q eta y / ref y))))
  (fun y _ => p y * ((f (u y) + f' (u y)) * S y))) => y.
by apply: is_derive_scal; exact: ratio_gradient.
Qed.

(** KL(ref‖q) is E_q[- u e^{-u}]. *)
Lemma forward_KL eta : KL ref (q eta) =
  E (q eta) (fun y => - (ln (q eta y / ref y) * exp (- ln (q eta y / ref y)))).
Proof.
apply: sum_ext => y; have q0 : 0 < q eta y by exact: softmax_gt0.
rewrite exp_Ropp exp_ln; last exact: Rdiv_lt_0_compat.
by rewrite (ln_quotient q0 (ref0 y)) (ln_quotient (ref0 y) q0); field; split; move: (ref0 y); lra.
Qed.

Theorem k1_in_loss : exists G : Y -> R,
  (forall y, is_derive (fun eta => ln (q eta y / ref y)) 0 (G y)) /\ E p G = 0.
Proof. by exists S; split; [exact: log_ratio_derivative | exact: expected_score]. Qed.

Theorem k2_in_loss : exists G : Y -> R,
  (forall y, is_derive (fun eta => ln (q eta y / ref y) ^ 2 / 2) 0 (G y)) /\
  is_derive (fun eta => KL (q eta) ref) 0 (E p G).
Proof.
exists (fun y => u y * S y); split=> [y|].
  apply: (@held_gradient (fun x => x ^ 2 / 2) (fun x => x)) => x.
  by auto_derive => //; field.
have := @expectation_gradient (fun x => x) (fun _ => 1) (fun x => ltac:(auto_derive => //)).
rewrite (_ : E p (fun y => (u y + 1) * S y) = E p (fun y => u y * S y)) //.
rewrite -[RHS]Rplus_0_r -expected_score -E_plus; apply: E_ext => y; ring.
Qed.

Theorem k3_in_loss : exists G : Y -> R,
  (forall y, is_derive (fun eta => let x := ln (q eta y / ref y) in exp (- x) - 1 + x) 0 (G y)) /\
  is_derive (fun eta => KL ref (q eta)) 0 (E p G).
Proof.
exists (fun y => (1 - exp (- u y)) * S y); split=> [y|].
  apply: (@held_gradient (fun x => exp (- x) - 1 + x) (fun x => 1 - exp (- x))) => x.
  by auto_derive => //; ring.
apply: (is_derive_ext _ _ _ _ (fun eta => esym (forward_KL eta))).
have := @expectation_gradient (fun x => - (x * exp (- x))) (fun x => - exp (- x) + x * exp (- x))
  (fun x => ltac:(auto_derive => //; ring)).
rewrite (_ : E p (fun y => (- (u y * exp (- u y)) + (- exp (- u y) + u y * exp (- u y))) * S y) =
  E p (fun y => (1 - exp (- u y)) * S y)) //.
rewrite -[LHS]Rplus_0_r -expected_score -E_plus; apply: E_ext => y; ring.
Qed.

Theorem k1_in_reward : is_derive (fun eta => KL (q eta) ref) 0 (E p (fun y => u y * S y)).
Proof.
have := @expectation_gradient (fun x => x) (fun _ => 1) (fun x => ltac:(auto_derive => //)).
rewrite (_ : E p (fun y => (u y + 1) * S y) = E p (fun y => u y * S y)) //.
rewrite -[RHS]Rplus_0_r -expected_score -E_plus; apply: E_ext => y; ring.
Qed.

Theorem k2_in_reward :
  is_derive (fun eta => E (q eta) (fun y => let x := ln (q eta y / ref y) in x ^ 2 / 2 - x)) 0
            (E p (fun y => u y ^ 2 / 2 * S y)).
Proof.
have := @expectation_gradient (fun x => x ^ 2 / 2 - x) (fun x => x - 1)
  (fun x => ltac:(auto_derive => //; field)).
rewrite (_ : E p (fun y => (u y ^ 2 / 2 - u y + (u y - 1)) * S y) = E p (fun y => u y ^ 2 / 2 * S y)) //.
rewrite -[LHS]Rplus_0_r -expected_score -E_plus; apply: E_ext => y; ring.
Qed.

Theorem k3_in_reward :
  is_derive (fun eta => KL (q eta) ref - KL ref (q eta)) 0
            (E p (fun y => (exp (- u y) - 1 + u y) * S y)).
Proof.
apply: (is_derive_ext (fun eta => E (q eta) (fun y =>
  (fun x => x + x * exp (- x)) (ln (q eta y / ref y))))) => [eta|].
  by rewrite forward_KL /KL -E_minus; apply: E_ext => y; ring.
have := @expectation_gradient (fun x => x + x * exp (- x)) (fun x => 1 + exp (- x) - x * exp (- x))
  (fun x => ltac:(auto_derive => //; ring)).
rewrite (_ : E p (fun y => (u y + u y * exp (- u y) + (1 + exp (- u y) - u y * exp (- u y))) * S y) =
  E p (fun y => (exp (- u y) - 1 + u y) * S y)) //.
have h := expected_score; rewrite -[RHS]Rplus_0_r -[X in _ = _ + X](Rmult_0_r 2) -h -E_scal -E_plus.
by apply: E_ext => y; ring.
Qed.

Theorem any_k_times_ratio (f f' : R -> R) : (forall x, is_derive f x (f' x)) -> exists G : Y -> R,
  (forall y, is_derive (fun eta => q eta y / p y * f (ln (q eta y / ref y))) 0 (G y)) /\
  is_derive (fun eta => E (q eta) (fun y => f (ln (q eta y / ref y)))) 0 (E p G).
Proof.
move=> df; exists (fun y => (f (u y) + f' (u y)) * S y).
by split=> [y|]; [exact: ratio_gradient | exact: expectation_gradient].
Qed.

End Estimators.
