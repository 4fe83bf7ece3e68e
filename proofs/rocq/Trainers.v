(** * Which objective a trainer has, and where it ends: KL estimators (T1), k3 penalties (T2), policy
    gradient without a leash (T10), verifier noise and entropy bonus (T11) *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Foundations SftThenRl Landscape.
From NonDecoupling Require Import RlThenSft Overpayment Verifiable PriceOfReward.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

(** ** T1 *)
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

(** ** T2: k3 in the loss *)
Section ForwardLeash.
Variable Y : finType.
Implicit Types (p q d ref r : Y -> R) (beta mu c M : R).

(** The regularised reward with the forward KL, and p* = beta ref/(mu - r). *)
Definition forward_objective p ref r beta := E p r - beta * KL ref p.
Definition forward_optimum ref r beta mu (y : Y) := beta * ref y / (mu - r y).

Lemma forward_optimum_law ref r beta mu : (forall y, 0 < ref y) -> 0 < beta ->
  (forall y, r y < mu) -> sum (forward_optimum ref r beta mu) = 1 ->
  law (forward_optimum ref r beta mu) /\ forall y, 0 < forward_optimum ref r beta mu y.
Proof.
move=> r0 b0 rm s1; have pos y : 0 < forward_optimum ref r beta mu y.
  apply: Rdiv_lt_0_compat; [exact: Rmult_lt_0_compat | by move: (rm y); lra].
by split=> //; split=> [y|//]; exact/Rlt_le.
Qed.

Theorem forward_optimum_reward ref r beta mu : law ref -> (forall y, r y < mu) ->
  sum (forward_optimum ref r beta mu) = 1 -> E (forward_optimum ref r beta mu) r = mu - beta.
Proof.
move=> lr rm s1.
have e : E (forward_optimum ref r beta mu) r = mu * sum (forward_optimum ref r beta mu) - beta * sum ref.
  rewrite /E !collect; apply: sum_ext => y; rewrite /forward_optimum; field.
  by move: (rm y); lra.
by rewrite e s1 (proj2 lr); ring.
Qed.

(** O(p* ) - O(p) = beta E_ref[z - 1 - log z], z = p/p*. *)
Theorem forward_gap p ref r beta mu : law p -> law ref -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta -> (forall y, r y < mu) ->
  sum (forward_optimum ref r beta mu) = 1 ->
  let z y := p y / forward_optimum ref r beta mu y in
  forward_objective (forward_optimum ref r beta mu) ref r beta - forward_objective p ref r beta =
  beta * E ref (fun y => z y - 1 - ln (z y)).
Proof.
move=> lp lr p0 r0 b0 rm s1 z; have [lo o0] := forward_optimum_law r0 b0 rm s1.
rewrite /forward_objective (forward_optimum_reward lr rm s1).
suff: beta * E ref (fun y => z y - 1 - ln (z y)) =
  (mu - E p r) - beta + beta * (KL ref p - KL ref (forward_optimum ref r beta mu)) by lra.
have -> : mu - E p r - beta = mu * sum p - E p r - beta * sum ref by rewrite (proj2 lp) (proj2 lr); ring.
rewrite /KL /E !collect; apply: sum_ext => y; rewrite /z.
rewrite (ln_quotient (p0 y) (o0 y)) (ln_quotient (r0 y) (p0 y)) (ln_quotient (r0 y) (o0 y)).
have -> : p y / forward_optimum ref r beta mu y = p y * (mu - r y) / (beta * ref y).
  by rewrite /forward_optimum; field; move: (r0 y) (rm y); lra.
by field; move: (r0 y); lra.
Qed.

Theorem forward_unique p ref r beta mu : law p -> law ref -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta -> (forall y, r y < mu) ->
  sum (forward_optimum ref r beta mu) = 1 ->
  forward_objective p ref r beta <= forward_objective (forward_optimum ref r beta mu) ref r beta /\
  (forward_objective p ref r beta = forward_objective (forward_optimum ref r beta mu) ref r beta <->
   forall y, p y = forward_optimum ref r beta mu y).
Proof.
move=> lp lr p0 r0 b0 rm s1; have [lo o0] := forward_optimum_law r0 b0 rm s1.
pose z y := p y / forward_optimum ref r beta mu y.
have gap : forward_objective (forward_optimum ref r beta mu) ref r beta - forward_objective p ref r beta
  = beta * E ref (fun y => z y - 1 - ln (z y)) by exact: forward_gap.
have z0 y : 0 < z y by exact: Rdiv_lt_0_compat.
have t0 y : 0 <= ref y * (z y - 1 - ln (z y)).
  by apply: Rmult_le_pos; [exact/Rlt_le | exact: sub1_ln_ge0].
have e0 : 0 <= E ref (fun y => z y - 1 - ln (z y)) by exact: sum_ge0.
have be0 := Rmult_le_pos _ _ (Rlt_le _ _ b0) e0.
split; first by lra.
split=> [e y|e].
  have ez : E ref (fun y => z y - 1 - ln (z y)) = 0 by apply: (Rmult_eq_reg_l beta); lra.
  have /Rmult_integral [|h] := sum_eq0 t0 ez y; first by move: (r0 y); lra.
  have : z y = 1 by apply: ln_eq_sub1 => //; lra.
  by move=> h1; rewrite -(Rmult_1_l (forward_optimum _ _ _ _ y)) -h1 /z; field; move: (o0 y); lra.
suff ez : E ref (fun y => z y - 1 - ln (z y)) = 0 by rewrite ez in gap; lra.
rewrite -(sum_0 Y); apply: sum_ext => y; rewrite /z e /Rdiv Rinv_r ?ln_1; [ring | by move: (o0 y); lra].
Qed.

(** A continuous function that goes from >= 0 to <= 0 has a zero on the way. *)
Lemma zero_between (f : R -> R) a b : (forall x, a <= x <= b -> continuity_pt f x) -> a <= b ->
  0 <= f a -> f b <= 0 -> exists x, a <= x <= b /\ f x = 0.
Proof.
move=> cf ab fa fb; case: fa => [fa|fa]; last by exists a; split; lra.
case: fb => [fb|fb]; last by exists b; split; lra.
case: ab => [ab|ab]; last by rewrite ab in fa; lra.
have [x [hx z]] := Ranalysis5.IVT_interv (fun x => - f x) a b
  (fun x hx => continuity_pt_opp _ _ (cf x hx)) ab ltac:(cbv beta; lra) ltac:(cbv beta; lra).
by exists x; split=> //; lra.
Qed.

(** mu exists, between max r + beta ref(argmax r) and max r + beta, and is unique. *)
Theorem forward_mu_exists ref r beta : law ref -> (forall y, 0 < ref y) -> 0 < beta ->
  exists mu, (forall y, r y < mu) /\ sum (forward_optimum ref r beta mu) = 1.
Proof.
move=> lr r0 b0; have [y1 _] := law_support lr; have [y0 top] := exists_max r y1.
have ref1 : ref y0 <= 1 by rewrite -(proj2 lr); apply: term_le_sum => z; exact/Rlt_le.
have br := Rmult_lt_0_compat _ _ b0 (r0 y0).
set f := fun mu => sum (forward_optimum ref r beta mu) - 1.
have cont mu : r y0 < mu -> continuity_pt f mu.
  move=> h; apply: continuity_pt_minus; last by apply: continuity_pt_const.
  apply: (continuity_sum (f := fun y mu => beta * ref y / (mu - r y))) => y.
  change (continuity_pt (fun mu => beta * ref y / (mu - r y)) mu).
  apply/continuity_pt_filterlim; apply: (ex_derive_continuous (fun mu => beta * ref y / (mu - r y))).
  by auto_derive; move: (top y); lra.
have lo : 0 <= f (r y0 + beta * ref y0).
  have o0 y : 0 <= forward_optimum ref r beta (r y0 + beta * ref y0) y.
    by apply: Rle_mult_inv_pos; [apply: Rmult_le_pos; exact/Rlt_le | move: (top y); lra].
  have := term_le_sum y0 o0; rewrite {1}/forward_optimum /f.
  by rewrite (_ : beta * ref y0 / (r y0 + beta * ref y0 - r y0) = 1); [lra | field; lra].
have hi : f (r y0 + beta) <= 0.
  rewrite /f; suff: sum (forward_optimum ref r beta (r y0 + beta)) <= sum ref by rewrite (proj2 lr); lra.
  apply: sum_le => y; rewrite /forward_optimum; have t := top y; have ry := r0 y.
  apply: (Rmult_le_reg_r (r y0 + beta - r y)); first by lra.
  rewrite /Rdiv Rmult_assoc Rinv_l; last by lra.
  by rewrite Rmult_1_r (Rmult_comm beta); apply: Rmult_le_compat_l; lra.
have le := Rmult_le_compat_l beta _ _ (Rlt_le _ _ b0) ref1.
have cf x : r y0 + beta * ref y0 <= x <= r y0 + beta -> continuity_pt f x.
  by move=> hx; apply: cont; lra.
have [mu [hmu z]] := zero_between cf ltac:(lra) lo hi.
by exists mu; split=> [y|]; [move: (top y) | move: z; rewrite /f]; lra.
Qed.

(** With ref = d it pays exactly the price of its reward: no policy with at least that reward has a
    smaller KL(d‖.). *)
Theorem forward_optimum_on_frontier d p r beta mu : law p -> law d -> d ≪ p ->
  (forall y, 0 < d y) -> 0 < beta -> (forall y, r y < mu) ->
  sum (forward_optimum d r beta mu) = 1 ->
  E (forward_optimum d r beta mu) r <= E p r ->
  KL d (forward_optimum d r beta mu) <= KL d p /\
  (KL d p = KL d (forward_optimum d r beta mu) -> forall y, p y = forward_optimum d r beta mu y).
Proof.
move=> lp ld dp d0 b0 rm s1 J; have p0 y : 0 < p y by exact: dominated_pos dp (d0 y).
have [le [uniq _]] := forward_unique lp ld p0 d0 b0 rm s1.
rewrite /forward_objective in le uniq; split; first by apply: (Rmult_le_reg_l beta); lra.
by move=> e; apply: uniq; rewrite e in le *; lra.
Qed.

(** Every reward strictly between J(d) and max r is that of some beta. *)
Theorem forward_every_reward d r c y0 : law d -> (forall y, 0 < d y) -> (forall y, r y <= r y0) ->
  E d r < c < r y0 -> exists beta, 0 < beta /\ (forall y, r y < c + beta) /\
  sum (forward_optimum d r beta (c + beta)) = 1 /\ E (forward_optimum d r beta (c + beta)) r = c.
Proof.
move=> ld d0 top [dc cM].
have [l [p [l01 [l1 [lp [dp [pc [pE _]]]]]]]] := strong_duality ld top cM (erefl (r y0)) dc.
have l1' : l < 1.
  by case: (Rlt_le_dec l 1) => // h; have := l1 ltac:(lra) y0 erefl; move: (d0 y0); lra.
have l0 : 0 < l.
  case: (Rlt_le_dec 0 l) => // h; have lz : l = 0 by lra.
  suff: E p r = E d r by lra.
  apply: E_law_ext => y; rewrite pE; last by left.
  by rewrite lz; field; lra.
set beta := (r y0 - c) / l; have b0 : 0 < beta by apply: Rdiv_lt_0_compat; lra.
have bl : beta * l = r y0 - c by rewrite /beta; field; lra.
have b1 : r y0 - c < beta by have := Rmult_lt_compat_l beta _ _ b0 l1'; lra.
have oE y : forward_optimum d r beta (c + beta) y = p y.
  rewrite pE; last by left.
  rewrite /forward_optimum -bl; have t := top y.
  have : 0 < c + beta - r y by lra.
  by move=> h; field; lra.
exists beta; split=> //; split=> [y|]; first by move: (top y); lra.
split; last by rewrite -[RHS]pc; exact: E_law_ext.
by rewrite -[RHS](proj2 lp); exact: sum_ext.
Qed.

(** ** T2: k3 in the reward *)

(** The objective that k3 in the reward trains (T1). *)
Definition k3_objective p ref r beta := E p r - beta * (KL p ref - KL ref p).

Lemma KL_le_ln_min p ref m : law p -> law ref -> 0 < m -> (forall y, m <= ref y) -> KL p ref <= - ln m.
Proof.
move=> lp lr m0 rm; rewrite -(E_const (- ln m) lp); apply: sum_le => y.
case: (law_case y lp) => [->|py]; first by lra.
have ry : 0 < ref y by move: (rm y); lra.
apply: Rmult_le_compat_l; first by lra.
rewrite ln_quotient //.
have p1 : ln (p y) <= 0.
  have : p y <= 1 by rewrite -(proj2 lp); apply: term_le_sum; apply lp.
  by case=> [/(ln_increasing _ _ py)|->]; rewrite ln_1; lra.
have : ln m <= ln (ref y) by case: (rm y) => [/(ln_increasing _ _ m0)|->]; lra.
by lra.
Qed.

Theorem k3_in_reward_unbounded ref r beta (y0 y1 : Y) B : law ref -> (forall y, 0 < ref y) ->
  0 < beta -> y0 != y1 -> exists p, law p /\ (forall y, 0 < p y) /\ B < k3_objective p ref r beta.
Proof.
move=> lr r0 b0 neq; have [ym min] := exists_max (fun y => - ref y) y0.
have m0 := r0 ym; set m := ref ym in m0.
have rm y : m <= ref y by move: (min y); rewrite /m; lra.
have [yr low] := exists_max (fun y => - r y) y0.
set a := ref y0; have a0 : 0 < a := r0 y0.
have a1 : a < 1.
  have := two_terms_le_sum neq (fun y => Rlt_le _ _ (r0 y)); rewrite (proj2 lr) -/a.
  by move: (r0 y1); lra.
(* move all but e of y0's mass to y1 *)
set b := a * ln a + (1 - a) * ln (1 - a).
set X := ((B - r yr) / beta - ln m - b) / a.
set e := a * exp (- Rabs X - 1).
have ex1 : exp (- Rabs X - 1) < 1 by rewrite -[X in _ < X]exp_0; apply: exp_increasing; move: (Rabs_pos X); lra.
have ex0 := exp_pos (- Rabs X - 1).
have e0 : 0 < e by exact: Rmult_lt_0_compat.
have ea : e < a by have := Rmult_lt_compat_l a _ _ a0 ex1; rewrite -/e; lra.
pose p y := if y == y0 then e else if y == y1 then ref y1 + (a - e) else ref y.
have p0 y : 0 < p y.
  by rewrite /p; case: (y == y0) => //; case: (y == y1); move: (r0 y) (r0 y1); lra.
have lp : law p.
  split=> [y|]; first exact/Rlt_le.
  have -> : sum p = sum ref + \sum_(y : Y) (if y == y0 then e - a else 0) +
                    \sum_(y : Y) (if y == y1 then a - e else 0); first last.
    by rewrite !sum_single (proj2 lr); ring.
  rewrite !collect; apply: sum_ext => y; rewrite /p; case: (eqVneq y y0) => [->|_].
    by rewrite (negbTE neq) /a; ring.
  by case: (eqVneq y y1) => [->|_]; ring.
exists p; split=> //; split=> //.
have kl1 := KL_le_ln_min lp lr m0 rm.
have s q : success (fun y => y == y0) q = q y0.
  rewrite success_sum -(@sum_single Y y0 (q y0)); apply: sum_ext => y.
  by case: (eqVneq y y0) => [->|].
have py0 : p y0 = e by rewrite /p eqxx.
have a01 : 0 < success (fun y => y == y0) p < 1 by rewrite s py0; lra.
have rp : ref ≪ p by exact: full_dominates.
have [kl2 _] := least_KL_at_success lr lp rp a01.
rewrite !s py0 -/a /coin_kl in kl2.
have t1 : ln ((1 - a) / (1 - e)) >= ln (1 - a).
  rewrite ln_quotient; try lra.
  by have := ln_increasing (1 - e) 1 ltac:(lra) ltac:(lra); rewrite ln_1; lra.
have t2 : ln (a / e) = Rabs X + 1.
  rewrite ln_quotient // /e ln_mult ?ln_exp //; lra.
have J : r yr <= E p r.
  by rewrite -(E_const (r yr) lp); apply: E_le => // y; move: (low y); lra.
have t3 := Rmult_ge_compat_l (1 - a) _ _ ltac:(lra) t1.
have aX : a * X = (B - r yr) / beta - ln m - b by rewrite /X; field; lra.
have aX1 : a * X < a * (Rabs X + 1) by apply: Rmult_lt_compat_l => //; move: (Rle_abs X); lra.
have la : a * ln a <= 0.
  have := ln_increasing a 1 a0 a1; rewrite ln_1 => h.
  by have := Rmult_le_pos a (- ln a) ltac:(lra) ltac:(lra); lra.
rewrite t2 in kl2.
have gap : (B - r yr) / beta < KL ref p - KL p ref by rewrite /b in aX; lra.
have := Rmult_lt_compat_l beta _ _ b0 gap.
rewrite (_ : beta * ((B - r yr) / beta) = B - r yr); last by field; lra.
by rewrite /k3_objective; lra.
Qed.

(** At p = ref the penalty has no gradient and no Hessian, in any direction of the logits. *)
Theorem k3_in_reward_flat (theta g : Y -> R) : inhabited Y ->
  let ref := softmax theta in
  let q eta := softmax (fun y => theta y + eta * g y) in
  exists D : R -> R, (forall eta, is_derive (fun eta => KL (q eta) ref - KL ref (q eta)) eta (D eta)) /\
            D 0 = 0 /\ is_derive D 0 0.
Proof.
move=> inh ref q; have lr : law ref by exact: softmax_law.
pose A eta := ln (E ref (fun y => exp (eta * g y))).
pose e eta := E (tilt_at ref g eta) g; pose V eta := Var (tilt_at ref g eta) g.
have qE eta y : q eta y = tilt_at ref g eta y by exact: softmax_step.
have id eta : eta * (e eta + e 0) - 2 * A eta = KL (q eta) ref - KL ref (q eta).
  have t0 y : tilt_at ref g 0 y = ref y.
    rewrite /tilt_at -[RHS]gibbs_zero //; move: y; apply/gibbs_eq_iff => // y z _ _; ring.
  rewrite (KL_ext (qE eta) (fun y => erefl (ref y))) (KL_ext (fun y => erefl (ref y)) (qE eta)).
  rewrite [KL ref _]KL_gibbs // [KL (tilt_at _ _ _) _]KL_gibbs_self // KL_refl // !E_scal -/(A eta).
  by rewrite -/(tilt_at ref g eta) /e (E_law_ext _ t0); ring.
have dA eta : is_derive A eta (e eta).
  have z0 := E_exp_gt0 (fun y => eta * g y) lr; have dz := is_derive_partition ref g eta.
  set P := fun eta => E ref (fun y => exp (eta * g y)) in dz.
  have exP : ex_derive P eta by eexists; exact: dz.
  change (is_derive (fun eta => ln (P eta)) eta (e eta)).
  auto_derive; first by split.
  rewrite (is_derive_unique _ _ _ dz) /e E_tilt_at // /P; field; lra.
have de eta : is_derive e eta (V eta) by exact: reward_derivative.
exists (fun eta => e 0 - e eta + eta * V eta); split; last split.
- move=> eta; apply: (is_derive_ext _ _ _ _ id).
  have exA : ex_derive A eta by eexists; exact: dA.
  have exe : ex_derive e eta by eexists; exact: de.
  auto_derive; first by [].
  by rewrite (is_derive_unique _ _ _ (dA eta)) (is_derive_unique _ _ _ (de eta)); ring.
- by change (@eq R (e 0 - e 0 + 0 * V 0) 0); ring.
have exV : ex_derive V 0.
  apply: (ex_derive_ext (fun eta => E (tilt_at ref g eta) (fun y => g y ^ 2) - e eta ^ 2)) => [t|].
    by rewrite /V Var_moments //; exact: gibbs_law.
  have ex2 := ex_derive_E_tilt_at g (fun y => g y ^ 2) 0 lr.
  have exe : ex_derive (fun t => e t ^ 2) 0 by apply: ex_derive_pow; eexists; exact: de.
  exact: (ex_derive_minus _ _ _ ex2 exe).
have exe : ex_derive e 0 by eexists; exact: de.
auto_derive; first by [].
rewrite (is_derive_unique _ _ _ (de 0)); ring.
Qed.

End ForwardLeash.

(** The smallest world: ref = (1/2, 1/2), r = 0, p = (1 - 2^-k, 2^-k). *)
Theorem k3_in_reward_two_responses beta k : 0 < beta -> (0 < k)%nat ->
  let ref := coin (1 / 2) in let p := coin (1 - (1 / 2) ^ k) in
  beta * (INR k / 2 - 2) * ln 2 <= @k3_objective bool_finType p ref (fun _ => 0) beta.
Proof.
move=> b0 k0 ref; set h := (1 / 2) ^ k => p.
have h0 : 0 < h by apply: pow_lt; lra.
have h1 : h < 1 by apply: (proj2 (pow_lt_1_compat (1 / 2) k _ (ltP k0))); lra.
have lr : @law bool_finType ref by apply: coin_law; lra.
have lp : @law bool_finType p by apply: coin_law; lra.
have half : ln (1 / 2) = - ln 2 by rewrite /Rdiv Rmult_1_l ln_Rinv //; lra.
have kl1 : @KL bool_finType p ref <= ln 2.
  have := @KL_le_ln_min _ p ref (1 / 2) lp lr ltac:(lra).
  by rewrite half Ropp_involutive; apply; case; rewrite /ref /=; lra.
have lnh : ln h = - (INR k * ln 2) by rewrite /h ln_pow ?half; lra.
have kl2 : @KL bool_finType ref p = (INR k / 2 - 1) * ln 2 - ln (1 - h) / 2.
  rewrite /KL sum_bool /ref /p /= !ln_quotient; try lra.
  have -> : 1 - (1 - h) = h by ring.
  have -> : 1 - 1 / 2 = 1 / 2 by field.
  by rewrite lnh half ln_1; field.
have l1 : ln (1 - h) < 0 by rewrite -ln_1; apply: ln_increasing; lra.
rewrite /k3_objective E_const // kl2.
have := Rmult_le_compat_l beta _ _ (Rlt_le _ _ b0) kl1.
by have := Rmult_le_pos beta (- ln (1 - h)) ltac:(lra) ltac:(lra); lra.
Qed.

(** ** T11 *)
Section Temperatures.
Variable Y : finType.
Implicit Types (p ref r : Y -> R) (beta alpha : R).

(** The reward that a noisy verifier pays on average, and its objective and optimum. *)
Theorem noisy_verifier ref r beta (f0 f1 : R) y : law ref -> 0 < beta -> f0 + f1 < 1 ->
  let seen z := r z * (1 - f1) + (1 - r z) * f0 in
  tilt ref seen beta y = tilt ref r (beta / (1 - f0 - f1)) y.
Proof.
move=> lr b0 f01 seen; rewrite /tilt; move: y; apply/gibbs_eq_iff => // y z _ _.
by rewrite /seen; field; lra.
Qed.

Theorem entropy_bonus p ref r beta alpha : law p -> law ref -> (forall y, 0 < ref y) ->
  0 < alpha + beta ->
  let w y := Rpower (ref y) (beta / (alpha + beta)) * exp (r y / (alpha + beta)) in
  let opt y := w y / sum w in
  let F p := Jb p ref r beta + alpha * entropy p in
  law opt /\ F opt - F p = (alpha + beta) * KL p opt.
Proof.
move=> lp lr r0 ab0 w opt F; set r' := fun y => r y - alpha * ln (ref y).
have oE y : opt y = tilt ref r' (alpha + beta) y.
  have z0 : 0 < E ref (fun z => exp (r' z / (alpha + beta))) by exact: E_exp_gt0.
  have wE z : w z = ref z * exp (r' z / (alpha + beta)).
    rewrite /w /Rpower -{2}(exp_ln (ref z)) // -!exp_plus; congr exp.
    by rewrite /r'; field; lra.
  by rewrite /opt /tilt /gibbs wE; congr (_ / _); apply: sum_ext.
have lo : law opt.
  have lt : law (tilt ref r' (alpha + beta)) by exact: gibbs_law.
  split=> [y|]; first by rewrite oE; apply lt.
  by rewrite -(proj2 lt); apply: sum_ext.
have FE q : law q -> F q = Jb q ref r' (alpha + beta).
  move=> lq; rewrite /F /Jb /entropy /CE /KL /E !collect; apply: sum_ext => y.
  case: (law_case y lq) => [->|qy]; first by ring.
  by rewrite (ln_quotient qy (r0 y)) /r'; ring.
split=> //; rewrite !FE // (KL_ext (fun y => erefl (p y)) oE) -regularised_reward_gap //.
  by rewrite /Jb (KL_ext oE (fun y => erefl (ref y))) (E_law_ext _ oE).
exact: full_dominates.
Qed.

(** S2 prices the entropy bonus, with the reward r - alpha log ref. *)
Theorem entropy_bonus_cost d r beta alpha : law d -> (forall y, 0 < d y) -> 0 < alpha + beta ->
  let w y := Rpower (d y) (beta / (alpha + beta)) * exp (r y / (alpha + beta)) in
  let opt y := w y / sum w in
  let r' y := r y - alpha * ln (d y) in
  CE d opt - CE d d = ln (Z d r' (alpha + beta)) - E d r' / (alpha + beta).
Proof.
move=> ld d0 ab0 w opt r'; rewrite -(proj1 (coupling_gap r' (alpha + beta) ld)); congr (_ - _).
apply: CE_ext => y; have wE z : w z = d z * exp (r' z / (alpha + beta)).
  rewrite /w /Rpower -{2}(exp_ln (d z)) // -!exp_plus; congr exp.
  by rewrite /r'; field; lra.
by rewrite /opt /tilt /gibbs wE; congr (_ / _); apply: sum_ext.
Qed.

End Temperatures.

(** ** T10 *)
Section Leashless.
Variable Y : finType.
Variables (ref r : Y -> R).
Hypothesis ref0 : forall y, 0 < ref y.
Implicit Types (sigma tau : R) (theta : R -> Y -> R).

Definition path_weight sigma tau y := / ref y + (sigma - tau * r y).

Lemma softmax_minus_ln (w : Y -> R) y : (forall z, 0 < w z) ->
  softmax (fun z => - ln (w z)) y = / w y / \sum_(z : Y) / w z.
Proof.
move=> w0; have e z : exp (- ln (w z)) = / w z by rewrite exp_Ropp exp_ln.
by rewrite /softmax e; congr (_ / _); apply: sum_ext.
Qed.

(** Along logits -ln(1/ref + sigma - tau r) with sum ln(1 + ref (sigma - tau r)) = 0 and the clock
    tau' = 1/(sum of the exponentials), theta' is the gradient p (r - E_p r) of the reward. *)
Theorem path_solves_flow (sigma tau : R -> R) (a b t : R) y : a < t < b ->
  (forall u, a < u < b -> (forall z, 0 < path_weight (sigma u) (tau u) z) /\
     \sum_(z : Y) ln (1 + ref z * (sigma u - tau u * r z)) = 0) ->
  let theta u z := - ln (path_weight (sigma u) (tau u) z) in
  let p := softmax (theta t) in
  ex_derive sigma t -> is_derive tau t (/ \sum_(z : Y) exp (theta t z)) ->
  is_derive (fun u => theta u y) t (p y * (r y - E p r)).
Proof.
move=> tab path theta p exs dtau; have [w0 _] := path t tab.
have [ds sD] : exists ds : R, is_derive sigma t ds by exists (Derive sigma t); exact: Derive_correct.
set W := \sum_(z : Y) exp (theta t z) in dtau.
have eE z : exp (theta t z) = / path_weight (sigma t) (tau t) z by rewrite /theta exp_Ropp exp_ln.
have W0 : 0 < W by apply: (sum_gt0 (y := y)) => [z|]; [apply/Rlt_le|]; exact: exp_pos.
have ext : ex_derive tau t by eexists; exact: dtau.
have line z : is_derive (fun u => ln (1 + ref z * (sigma u - tau u * r z))) t
                        ((ds - / W * r z) * exp (theta t z)).
  have p1 : 1 + ref z * (sigma t - tau t * r z) = ref z * path_weight (sigma t) (tau t) z.
    by rewrite /path_weight; field; move: (ref0 z); lra.
  have p0 := Rmult_lt_0_compat _ _ (ref0 z) (w0 z).
  auto_derive; first by rewrite p1.
  rewrite (is_derive_unique _ _ _ sD) (is_derive_unique _ _ _ dtau) p1 eE; field.
  by move: (ref0 z) (w0 z); lra.
have tot : \sum_(z : Y) ((ds - / W * r z) * exp (theta t z)) = 0.
  have d1 := @is_derive_sum _ (fun z u => ln (1 + ref z * (sigma u - tau u * r z)))
    (fun z _ => (ds - / W * r z) * exp (theta t z)) t line.
  have d2 : is_derive (fun u => \sum_(z : Y) ln (1 + ref z * (sigma u - tau u * r z))) t 0.
    apply: (is_derive_ext_loc (fun _ => 0)); last exact: is_derive_const.
    apply: (locally_interval _ t a b); try by case: tab.
    by move=> u au ub; symmetry; apply path; split.
  by rewrite -(is_derive_unique _ _ _ d1) (is_derive_unique _ _ _ d2).
have pE z : p z = exp (theta t z) / W by [].
have dsE : ds = / W * E p r.
  have e : \sum_(z : Y) ((ds - / W * r z) * exp (theta t z)) = ds * W - E p r.
    rewrite /E /W !collect; apply: sum_ext => z; rewrite pE -/W; field; lra.
  by rewrite (_ : E p r = ds * W); [field | rewrite e in tot]; lra.
have -> : p y * (r y - E p r) = - (ds - / W * r y) / path_weight (sigma t) (tau t) y.
  by rewrite pE eE dsE; field; split; [lra | move: (w0 y); lra].
have wy := w0 y; rewrite /theta /path_weight in wy *; auto_derive; first by [].
by rewrite (is_derive_unique _ _ _ sD) (is_derive_unique _ _ _ dtau) /Rdiv /Rminus; ring.
Qed.

(** Any solution of the flow from ref is on that path. *)
Theorem flow_on_path theta (a b t : R) : a < 0 < b -> a < t < b ->
  (forall y, theta 0 y = ln (ref y)) ->
  (forall u y, a < u < b ->
   is_derive (fun u => theta u y) u (softmax (theta u) y * (r y - E (softmax (theta u)) r))) ->
  exists sigma tau, (forall y, 0 < path_weight sigma tau y) /\
    \sum_(y : Y) ln (1 + ref y * (sigma - tau * r y)) = 0 /\
    (forall y, theta t y = - ln (path_weight sigma tau y)) /\
    (forall y, softmax (theta t) y = / path_weight sigma tau y / \sum_(z : Y) / path_weight sigma tau z).
Proof.
move=> ab0 abt start flow.
have const (f : R -> R) : (forall u, a < u < b -> is_derive f u 0) -> f t = f 0.
  move=> df; case: (Rtotal_order t 0) => [h|[->//|h]].
    by apply: (eq_is_derive f) => // u hu; apply: df; lra.
  by symmetry; apply: (eq_is_derive f) => // u hu; apply: df; lra.
pose S u := \sum_(y : Y) exp (theta u y); pose J u := E (softmax (theta u)) r.
pose w u y := exp (- theta u y).
have S0 u (y : Y) : 0 < S u by apply: (sum_gt0 (y := y)) => [z|]; [apply/Rlt_le|]; exact: exp_pos.
have dw u y : a < u < b -> is_derive (fun u => w u y) u (J u / S u - r y / S u).
  move=> hu; have := flow u y hu; set th := fun u => theta u y => dth.
  have ex : ex_derive th u by eexists; exact: dth.
  change (is_derive (fun u => exp (- th u)) u (J u / S u - r y / S u)).
  auto_derive => //; rewrite (is_derive_unique _ _ _ dth) -/(J u) exp_Ropp /softmax -/(S u) /th.
  by have s0 := S0 u y; have e0 := exp_pos (theta u y); field; lra.
have w0 y : w 0 y = / ref y by rewrite /w start exp_Ropp exp_ln.
have affine : exists sigma tau, forall y, w t y = path_weight sigma tau y.
  case: (Classical_Prop.classic (exists y1 y2, r y1 <> r y2)) => [[y1 [y2 neq]]|same].
    pose D y := w t y - w 0 y.
    have lin y : (r y1 - r y2) * D y = (r y - r y2) * D y1 + (r y1 - r y) * D y2.
      suff: (r y1 - r y2) * w t y - (r y - r y2) * w t y1 - (r y1 - r y) * w t y2 =
            (r y1 - r y2) * w 0 y - (r y - r y2) * w 0 y1 - (r y1 - r y) * w 0 y2.
        by rewrite /D; lra.
      apply: (const (fun u => (r y1 - r y2) * w u y - (r y - r y2) * w u y1 - (r y1 - r y) * w u y2)).
      move=> u hu; have := dw u y hu; have := dw u y1 hu; have := dw u y2 hu.
      set A := fun u => w u y; set B := fun u => w u y1; set C := fun u => w u y2 => dC dB dA.
      have exA : ex_derive A u by eexists; exact: dA.
      have exB : ex_derive B u by eexists; exact: dB.
      have exC : ex_derive C u by eexists; exact: dC.
      change (is_derive (fun u => (r y1 - r y2) * A u - (r y - r y2) * B u - (r y1 - r y) * C u) u 0).
      auto_derive => //; rewrite (is_derive_unique _ _ _ dA) (is_derive_unique _ _ _ dB).
      by rewrite (is_derive_unique _ _ _ dC); field; move: (S0 u y); lra.
    exists ((r y1 * D y2 - r y2 * D y1) / (r y1 - r y2)), (- (D y1 - D y2) / (r y1 - r y2)) => y.
    have e : w t y = w 0 y + D y by rewrite /D; ring.
    have rr : r y1 - r y2 <> 0 by lra.
    rewrite e w0 /path_weight; congr (_ + _); apply: (Rmult_eq_reg_l (r y1 - r y2)) => //.
    by rewrite lin; field.
  exists 0, 0 => y; rewrite /path_weight -w0.
  rewrite (_ : w t y = w 0 y); first by ring.
  apply: (const (fun u => w u y)) => u hu; have := dw u y hu.
  rewrite (_ : J u / S u - r y / S u = 0) //.
  suff -> : J u = r y by field; move: (S0 u y); lra.
  rewrite /J -(E_const (r y) (softmax_law (theta u) (inhabits y))); apply: E_ext => z.
  by apply: Classical_Prop.NNPP => n; apply: same; exists z, y.
have [sigma [tau wE]] := affine.
have pos y : 0 < path_weight sigma tau y by rewrite -wE; exact: exp_pos.
have thE y : theta t y = - ln (path_weight sigma tau y) by rewrite -wE ln_exp; ring.
exists sigma, tau; split=> //; split; last split=> //; last first.
  move=> y; rewrite -softmax_minus_ln //; rewrite /softmax thE; congr (_ / _).
  by apply: sum_ext => z; rewrite thE.
have sums : sum (theta t) = sum (theta 0).
  apply: (const (fun u => sum (theta u))) => u hu.
  have := @is_derive_sum _ (fun y u => theta u y) (fun y u => softmax (theta u) y * (r y - J u)) u
    (fun y => flow u y hu).
  rewrite (_ : \sum_(y : Y) (softmax (theta u) y * (r y - J u)) = 0) //.
  case: (Classical_Prop.classic (inhabited Y)) => [inh|none].
    have l := softmax_law (theta u) inh.
    have := E_minus (softmax (theta u)) r (fun _ => J u); rewrite E_const // => e.
    by rewrite -[RHS](Rminus_eq_0 (J u)); exact: e.
  rewrite -(sum_0 Y); apply: sum_ext => y; case: none; exact: inhabits y.
rewrite -[RHS](Rminus_eq_0 (sum (theta t))) {1}sums !collect; apply: sum_ext => y.
rewrite start thE (_ : 1 + ref y * (sigma - tau * r y) = ref y * path_weight sigma tau y).
  by rewrite ln_mult //; ring.
by rewrite /path_weight; field; move: (ref0 y); lra.
Qed.

(** For each tau at most one sigma. *)
Theorem path_sigma_unique sigma (sigma' : R) tau : inhabited Y -> sigma < sigma' ->
  (forall y, 0 < path_weight sigma tau y) ->
  \sum_(y : Y) ln (1 + ref y * (sigma - tau * r y)) < \sum_(y : Y) ln (1 + ref y * (sigma' - tau * r y)).
Proof.
move=> [y0] lt pos; set f := fun y => ln (1 + ref y * (sigma' - tau * r y)) - ln (1 + ref y * (sigma - tau * r y)).
suff: 0 < sum f by rewrite /f -sum_minus; lra.
have f0 y : 0 < f y.
  have p1 : 1 + ref y * (sigma - tau * r y) = ref y * path_weight sigma tau y.
    by rewrite /path_weight; field; move: (ref0 y); lra.
  have := Rmult_lt_0_compat _ _ (ref0 y) (pos y); rewrite -p1 => h.
  have := Rmult_lt_compat_l _ _ _ (ref0 y) lt => h'.
  by have := ln_increasing _ (1 + ref y * (sigma' - tau * r y)) h ltac:(lra); rewrite /f; lra.
by apply: (sum_gt0 (y := y0)) => // y; exact/Rlt_le.
Qed.

(** From a uniform ref the path is S5's frontier. *)
Theorem path_from_uniform sigma tau k p' : law ref -> (forall y, ref y = k) -> 0 < tau ->
  (forall y, 0 < path_weight sigma tau y) ->
  let p y := / path_weight sigma tau y / \sum_(z : Y) / path_weight sigma tau z in
  law p' -> ref ≪ p' -> E p r <= E p' r -> KL ref p <= KL ref p'.
Proof.
move=> lr uni t0 pos p lp' rp J; have [y0 _] := law_support lr.
have k0 : 0 < k by rewrite -(uni y0).
set C := \sum_(z : Y) / path_weight sigma tau z.
have C0 : 0 < C by apply: (sum_gt0 (y := y0)) => [z|]; [apply/Rlt_le|]; exact: Rinv_0_lt_compat.
set beta := / (C * tau * k); set mu := (/ k + sigma) / tau.
have b0 : 0 < beta by apply/Rinv_0_lt_compat/Rmult_lt_0_compat => //; exact: Rmult_lt_0_compat.
have gap y : mu - r y = path_weight sigma tau y / tau.
  by rewrite /mu /path_weight uni; field; lra.
have rm y : r y < mu by have := Rdiv_lt_0_compat _ _ (pos y) t0; rewrite -gap; lra.
have oE y : forward_optimum ref r beta mu y = p y.
  by rewrite /forward_optimum gap /p -/C /beta uni; field; move: (pos y); lra.
have s1 : sum (forward_optimum ref r beta mu) = 1.
  rewrite (sum_ext oE) /p -/C (_ : \sum_(y : Y) / path_weight sigma tau y / C = C / C).
    by field; lra.
  by rewrite /Rdiv Rmult_comm sum_scal; apply: sum_ext => y; rewrite Rmult_comm.
have [le _] := forward_optimum_on_frontier lp' lr rp ref0 b0 rm s1 ltac:(rewrite (E_law_ext _ oE); exact: J).
by rewrite (KL_ext (fun y => erefl (ref y)) oE) in le.
Qed.

End Leashless.
