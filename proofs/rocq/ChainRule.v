(** * F4: the chain rule for sequence laws

    Statements about one finite law apply to whole responses, because a law of token sequences is a
    law on a finite set. The chain rule says what its KL divergence is in terms of tokens. *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From NonDecoupling Require Import Sums Calculus Policies Foundations.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

(** ** Two steps: a, then b given a *)
Section TwoSteps.
Variables A B : finType.
Implicit Types (p q : A -> R) (pB qB : A -> B -> R).

Definition two_steps p pB (ab : A * B) := p ab.1 * pB ab.1 ab.2.

Lemma E_two_steps p pB (f : A * B -> R) :
  E (two_steps p pB) f = E p (fun a => E (pB a) (fun b => f (a, b))).
Proof.
rewrite /E sum_pair; apply: sum_ext => a; rewrite sum_scal.
by apply: sum_ext => b; rewrite /two_steps /=; ring.
Qed.

Theorem chain_rule_two_steps p q pB qB : law p -> law q -> p ≪ q ->
  (forall a, law (pB a)) -> (forall a, law (qB a)) -> (forall a, pB a ≪ qB a) ->
  KL (two_steps p pB) (two_steps q qB) = KL p q + E p (fun a => KL (pB a) (qB a)).
Proof.
move=> lp lq pq lpB lqB pqB; rewrite /KL sum_pair /E collect; apply: sum_ext => a.
rewrite -(Rmult_1_r (p a * ln (p a / q a))) -(proj2 (lpB a)) !collect.
apply: sum_ext => b; rewrite /two_steps /=.
case: (law_case a lp) => [->|pa]; first by ring.
case: (law_case b (lpB a)) => [->|pb]; first by ring.
have qa := dominated_pos lq pq pa; have qb := dominated_pos (lqB a) (pqB a) pb.
by rewrite !ln_quotient ?ln_mult //; [ring | exact: Rmult_lt_0_compat..].
Qed.
End TwoSteps.

(** ** Sequences of T tokens *)
Section Sequences.
Variable V : finType.  (* the vocabulary *)

Fixpoint sequences (T : nat) : finType := if T is S n then [finType of V * sequences n] else
  unit_finType.

Fixpoint tokens (T : nat) : sequences T -> list V :=
  if T is S n then fun s : V * sequences n => s.1 :: tokens s.2 else fun _ => [::].

(** An autoregressive policy: the law of the next token, given the tokens so far. *)
Implicit Types (p q : list V -> V -> R) (h : list V).

(** The law it gives to the next T tokens after h. *)
Fixpoint sequence_law p h (T : nat) : sequences T -> R :=
  if T is S n then two_steps (p h) (fun v => sequence_law p (rcons h v) (T:=n)) else fun _ => 1.

Lemma sequence_law_law p h T : (forall h, law (p h)) -> law (@sequence_law p h T).
Proof.
move=> lp; elim: T h => [|T IH] h /=.
  by split=> [_|]; [lra | rewrite sum_unit].
split=> [[a s]|]; first by apply: Rmult_le_pos; [apply lp | apply IH].
rewrite sum_pair -(proj2 (lp h)); apply: sum_ext => a /=.
by rewrite -(Rmult_1_r (p h a)) -(proj2 (IH (rcons h a))) collect.
Qed.

Lemma sequence_law_dominated p q h T : (forall h, law (p h)) -> (forall h, law (q h)) ->
  (forall h, p h ≪ q h) -> @sequence_law p h T ≪ @sequence_law q h T.
Proof.
move=> lp lq pq; elim: T h => [|T IH] h /=; first by move=> _; lra.
move=> [a s]; rewrite /two_steps /= => /Rmult_integral [/pq ->|/IH ->]; ring.
Qed.

(** F4. KL of sequence laws = sum over t of E_{y_<t ~ first argument} KL(token laws). *)
Theorem chain_rule p q h T : (forall h, law (p h)) -> (forall h, law (q h)) -> (forall h, p h ≪ q h) ->
  KL (@sequence_law p h T) (@sequence_law q h T) =
  \sum_(t : ordinal_finType T) E (@sequence_law p h t)
    (fun s => KL (p (h ++ tokens s)) (q (h ++ tokens s))).
Proof.
move=> lp lq pq; elim: T h => [|T IH] h.
  rewrite /KL /sum big_ord0 big1 // => s _ /=.
  by rewrite (_ : 1 / 1 = 1) ?ln_1; field.
have lsp h' n := @sequence_law_law p h' n lp; have lsq h' n := @sequence_law_law q h' n lq.
rewrite /= chain_rule_two_steps // => [|a]; last exact: sequence_law_dominated.
rewrite /sum big_ord_recl; congr (_ + _).
  by rewrite /E sum_unit /= cats0; ring.
rewrite -/(sum _) (@E_ext _ _ _ _ (fun v => IH (rcons h v))) {1}/E.
rewrite (@sum_ext _ _ (fun v => \sum_(t : ordinal_finType T) (p h v *
  E (@sequence_law p (rcons h v) t)
    (fun s => KL (p (rcons h v ++ tokens s)) (q (rcons h v ++ tokens s)))))); last first.
  by move=> v; rewrite collect.
rewrite sum_exchange; apply: sum_ext => t.
rewrite [RHS]E_two_steps; apply: sum_ext => v; congr (_ * _); apply: E_ext => s /=.
by rewrite cat_rcons.
Qed.
End Sequences.
