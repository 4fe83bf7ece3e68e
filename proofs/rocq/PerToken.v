(** * Leashes per token on a token tree (T3): the stationary policy is unique, by backward induction *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From NonDecoupling Require Import Sums Policies Foundations Verifiable Penalties GroupNormalised Schedules.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

Section Tree.
Variables (V : finType) (T : nat) (r : seq V -> R) (beta : R).
Hypothesis beta0 : 0 < beta.
Implicit Types (p ref : seq V -> V -> R) (h : seq V).

(** The expected reward when n tokens remain after the prefix h: the hard value. *)
Fixpoint value p n h := if n is m.+1 then E (p h) (fun a => value p m (rcons h a)) else r h.

(** Q(h, a), with T tokens in all. *)
Definition action_value p h a := value p (T - size h).-1 (rcons h a).

(** The gradient at the logits of prefix h, divided by the probability of h, vanishes. k2 in the loss: *)
Definition stationary_k2 ref p h := forall a,
  p h a * (action_value p h a - E (p h) (action_value p h)) =
  beta * (p h a * (ln (p h a / ref h a) - E (p h) (fun b => ln (p h b / ref h b)))).
(** k3 in the loss: *)
Definition stationary_k3 ref p h := forall a,
  p h a * (action_value p h a - E (p h) (action_value p h)) = beta * (p h a - ref h a).

Definition full p := forall h, law (p h) /\ forall a, 0 < p h a.

Lemma stationary_k2_tilt ref p h : full p -> full ref ->
  stationary_k2 ref p h <-> forall a, p h a = tilt (ref h) (action_value p h) beta a.
Proof.
move=> /(_ h) [lp p0] /(_ h) [lr r0].
have := tilt_iff_constant (action_value p h) lp lr p0 r0 beta0 Rlt_0_1.
rewrite /= (_ : beta / 1 = beta); last by field.
move=> ->; rewrite /stationary_k2; set Q := action_value p h; set u := fun b => ln (p h b / ref h b).
split=> [st|same a].
  suff c a : 1 * Q a - beta * u a = E (p h) Q - beta * E (p h) u by move=> a b; rewrite !c.
  have := st a; rewrite -/(u a) => e; apply: (Rmult_eq_reg_l (p h a)); last by move: (p0 a); lra.
  by move: e; lra.
have e : E (p h) (fun b => 1 * Q b - beta * u b) = 1 * Q a - beta * u a.
  by rewrite -[RHS](E_const _ lp); apply: E_ext => b; exact: same.
rewrite E_minus !E_scal in e; rewrite -/(u a).
suff -> : Q a - E (p h) Q = beta * (u a - E (p h) u) by ring.
by lra.
Qed.

(** k3: p(a|h) = beta ref(a|h)/(mu - Q(h,a)) with mu = V(h) + beta, which exceeds every Q(h,a). *)
Lemma stationary_k3_forward ref p h : full p -> full ref -> stationary_k3 ref p h ->
  let mu := E (p h) (action_value p h) + beta in
  (forall a, action_value p h a < mu) /\
  (forall a, p h a = forward_optimum (ref h) (action_value p h) beta mu a).
Proof.
move=> /(_ h) [lp p0] /(_ h) [lr r0] st mu.
have key a : p h a * (mu - action_value p h a) = beta * ref h a.
  by have := st a; rewrite /mu; lra.
have lt a : action_value p h a < mu.
  have br := Rmult_lt_0_compat _ _ beta0 (r0 a); rewrite -key in br.
  apply: Rnot_le_lt => le.
  by have := Rmult_le_pos (p h a) (action_value p h a - mu) ltac:(move: (p0 a); lra) ltac:(lra); lra.
by split=> // a; rewrite /forward_optimum -key; field; move: (lt a); lra.
Qed.

(** If the values after the next token agree, so do the stationary policies at h. *)
Lemma k2_step ref p p' h : full p -> full p' -> full ref -> stationary_k2 ref p h ->
  stationary_k2 ref p' h -> (forall a, action_value p h a = action_value p' h a) ->
  forall a, p h a = p' h a.
Proof.
move=> fp fp' fr /(stationary_k2_tilt h fp fr) e /(stationary_k2_tilt h fp' fr) e' q a.
by rewrite e e'; apply: gibbs_ext => // b; rewrite q.
Qed.

Lemma k3_step ref p p' h : full p -> full p' -> full ref -> stationary_k3 ref p h ->
  stationary_k3 ref p' h -> (forall a, action_value p h a = action_value p' h a) ->
  forall a, p h a = p' h a.
Proof.
move=> fp fp' fr /(stationary_k3_forward fp fr) [lt e] /(stationary_k3_forward fp' fr) [lt' e'] q a.
have [lr r0] := fr h; have [lp p0] := fp h; have [lp' p0'] := fp' h.
set mu := _ + beta in lt e; set mu' := _ + beta in lt' e'.
have s1 : sum (forward_optimum (ref h) (action_value p h) beta mu) = 1.
  by rewrite -(proj2 lp); apply: sum_ext => b; rewrite -e.
have e2 b : p' h b = forward_optimum (ref h) (action_value p h) beta mu' b.
  by rewrite e' /forward_optimum q.
have s2 : sum (forward_optimum (ref h) (action_value p h) beta mu') = 1.
  by rewrite -(proj2 lp'); apply: sum_ext => b; rewrite -e2.
have lt2 b : action_value p h b < mu' by rewrite q.
have [le1 iff1] := forward_unique lp' lr p0' r0 beta0 lt s1.
have [le2 _] := forward_unique lp lr p0 r0 beta0 lt2 s2.
have obj x y : (forall b, x b = y b) ->
    forward_objective x (ref h) (action_value p h) beta = forward_objective y (ref h) (action_value p h) beta.
  by move=> xy; rewrite /forward_objective (E_law_ext _ xy) (KL_ext (fun b => erefl (ref h b)) xy).
rewrite -(obj _ _ e) in le1 iff1; rewrite -(obj _ _ e2) in le2.
by rewrite e; symmetry; exact: (proj1 iff1 (Rle_antisym _ _ le1 le2)).
Qed.

(** Backward induction. *)
Lemma unique_by_induction (st : (seq V -> V -> R) -> seq V -> Prop) p p' :
  (forall h, (forall a, action_value p h a = action_value p' h a) -> st p h -> st p' h ->
     forall a, p h a = p' h a) ->
  (forall h, (size h < T)%nat -> st p h) -> (forall h, (size h < T)%nat -> st p' h) ->
  forall h, (size h < T)%nat -> forall a, p h a = p' h a.
Proof.
move=> step sp sp'.
have same n : forall h, (size h + n)%nat = T -> value p n h = value p' n h /\
    ((0 < n)%nat -> forall a, p h a = p' h a).
  elim: n => [|n IH] h hT; first by split.
  have hs : (size h < T)%nat by rewrite -hT -addSnnS leq_addr.
  have q a : value p n (rcons h a) = value p' n (rcons h a).
    by apply IH; rewrite size_rcons addSnnS.
  have nE : (T - size h).-1 = n by rewrite -hT addKn.
  have e a : p h a = p' h a.
    by apply: step => [b||]; [rewrite /action_value nE | exact: sp | exact: sp'].
  by split=> //=; apply: sum_ext => a; rewrite e q.
move=> h hs; have [_] := same (T - size h)%nat h (subnKC (ltnW hs)).
by apply; rewrite subn_gt0.
Qed.

Theorem per_token_k2_unique ref p p' : full p -> full p' -> full ref ->
  (forall h, (size h < T)%nat -> stationary_k2 ref p h) ->
  (forall h, (size h < T)%nat -> stationary_k2 ref p' h) ->
  forall h, (size h < T)%nat -> forall a, p h a = p' h a.
Proof.
move=> fp fp' fr; apply: unique_by_induction => h q s s'; exact: (k2_step fp fp' fr s s' q).
Qed.

Theorem per_token_k3_unique ref p p' : full p -> full p' -> full ref ->
  (forall h, (size h < T)%nat -> stationary_k3 ref p h) ->
  (forall h, (size h < T)%nat -> stationary_k3 ref p' h) ->
  forall h, (size h < T)%nat -> forall a, p h a = p' h a.
Proof.
move=> fp fp' fr; apply: unique_by_induction => h q s s'; exact: (k3_step fp fp' fr s s' q).
Qed.

(** The k2 policy exists: its value with n tokens left, and the policy. *)
Fixpoint k2_value ref n h := if n is m.+1 then
  E (tilt (ref h) (fun a => k2_value ref m (rcons h a)) beta) (fun a => k2_value ref m (rcons h a)) else r h.

Definition k2_policy ref h := tilt (ref h) (fun a => k2_value ref (T - size h).-1 (rcons h a)) beta.

Theorem per_token_k2_exists ref : full ref ->
  full (k2_policy ref) /\ forall h, (size h < T)%nat -> stationary_k2 ref (k2_policy ref) h.
Proof.
move=> fr; have fp : full (k2_policy ref).
  by move=> h; have [lr r0] := fr h; split=> [|a]; [exact: gibbs_law | exact: gibbs_gt0].
split=> // h hs; apply/(stationary_k2_tilt h fp fr) => a.
have same n : forall h, (size h + n)%nat = T -> value (k2_policy ref) n h = k2_value ref n h.
  elim: n => [|n IH] g gT //=.
  have q b : value (k2_policy ref) n (rcons g b) = k2_value ref n (rcons g b).
    by apply: IH; rewrite size_rcons addSnnS.
  have nE : (T - size g).-1 = n by rewrite -gT addKn.
  by rewrite (E_ext _ q); apply: E_law_ext => b; rewrite /k2_policy nE.
rewrite /k2_policy; apply: gibbs_ext => // b; congr (_ / _); rewrite /action_value same //.
by rewrite size_rcons addSnnS prednK ?subn_gt0 // subnKC // ltnW.
Qed.

End Tree.
