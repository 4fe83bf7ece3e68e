(** * Foundations: F1 Gibbs inequality, F2 decomposition, F3 Gibbs variational principle, I1 *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype seq fintype bigop.
From NonDecoupling Require Import Sums Calculus Policies.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

(** ** F1, F2 *)
Section Gibbs.
Variable Y : finType.
Implicit Types (p q d ref : Y -> R) (r f : Y -> R) (beta : R).

Lemma gibbs_pointwise (a b : R) : 0 <= a -> 0 <= b -> (b = 0 -> a = 0) -> a - b <= a * ln (a / b).
Proof.
case=> [a0 [b0 _|<- /(_ erefl)]|<- b0 _]; try lra.
have := ln_le_sub1 (Rdiv_lt_0_compat _ _ b0 a0); rewrite !ln_quotient // => h.
have := Rmult_le_compat_l a _ _ (Rlt_le _ _ a0) h.
by rewrite (_ : a * (b / a - 1) = b - a); [lra | field; lra].
Qed.

Lemma gibbs_pointwise_eq (a b : R) :
  0 <= a -> 0 <= b -> (b = 0 -> a = 0) -> a - b = a * ln (a / b) -> a = b.
Proof.
case=> [a0 [b0 _|<- /(_ erefl)]|<- b0 _]; try lra.
rewrite ln_quotient // => h.
have /ln_eq_sub1 : ln (b / a) = b / a - 1.
  by rewrite ln_quotient //; apply: (Rmult_eq_reg_l a); [field_simplify; lra | lra].
by move=> /(_ (Rdiv_lt_0_compat _ _ b0 a0)) e; rewrite -(Rmult_1_r a) -e; field; lra.
Qed.

Lemma sum_law_difference p q : law p -> law q -> \sum_(y : Y) (p y - q y) = 0.
Proof. by move=> [_ p1] [_ q1]; rewrite -sum_minus p1 q1; lra. Qed.

(** F1. KL(p‖q) >= 0 ... *)
Theorem KL_ge0 p q : law p -> law q -> p ≪ q -> 0 <= KL p q.
Proof.
move=> lp lq pq; rewrite -(sum_law_difference lp lq); apply: sum_le => y.
by apply: gibbs_pointwise; [apply lp | apply lq | exact: pq].
Qed.

(** ... with equality iff p = q. *)
Theorem KL_eq0 p q : law p -> law q -> p ≪ q -> KL p q = 0 <-> forall y, p y = q y.
Proof.
move=> lp lq pq; split=> [e y|e].
  apply: gibbs_pointwise_eq; [by apply lp | by apply lq | exact: pq |].
  apply: (@sum_le_eq _ (fun y => p y - q y) (fun y => p y * ln (p y / q y))) => [z|].
    by apply: gibbs_pointwise; [apply lp | apply lq | exact: pq].
  by rewrite sum_law_difference //; symmetry.
rewrite -(sum_0 Y); apply: sum_ext => y; rewrite -e.
case: (law_case y lp) => [->|py]; first by ring.
by rewrite /Rdiv Rinv_r ?ln_1; lra.
Qed.

Lemma KL_refl p : law p -> KL p p = 0.
Proof. by move=> lp; apply/KL_eq0. Qed.

Lemma KL_gt0 p q y : law p -> law q -> p ≪ q -> p y <> q y -> 0 < KL p q.
Proof.
move=> lp lq pq neq; case: (KL_ge0 lp lq pq) => // e; case: neq.
by move: y; apply/KL_eq0 => //; symmetry.
Qed.

Lemma KL_ext p p' q q' : (forall y, p y = p' y) -> (forall y, q y = q' y) -> KL p q = KL p' q'.
Proof. by move=> ep eq; apply: sum_ext => y; rewrite ep eq. Qed.

Lemma CE_ext d p p' : (forall y, p y = p' y) -> CE d p = CE d p'.
Proof. by move=> ep; rewrite /CE; congr Ropp; apply: sum_ext => y; rewrite ep. Qed.

(** F2. CE(d,p) = H(d) + KL(d‖p). *)
Theorem CE_decomposition d p : law d -> law p -> d ≪ p -> CE d p = entropy d + KL d p.
Proof.
move=> ld lp dp; rewrite /entropy /CE /KL !collect; apply: sum_ext => y.
case: (law_case y ld) => [->|dy]; first by ring.
by rewrite (ln_quotient dy (dominated_pos lp dp dy)); ring.
Qed.

Theorem CE_min d p : law d -> law p -> d ≪ p ->
  entropy d <= CE d p /\ (CE d p = entropy d <-> forall y, p y = d y).
Proof.
move=> ld lp dp; rewrite CE_decomposition //; have k0 := KL_ge0 ld lp dp; split; first by lra.
split=> [e y|e]; first by symmetry; move: y; apply/KL_eq0 => //; lra.
by have -> : KL d p = 0; [apply/KL_eq0 | lra].
Qed.

(** ** Reweighting a law by e^f *)

Lemma gibbs_law ref f : law ref -> law (gibbs ref f).
Proof.
move=> lr; have z0 := E_exp_gt0 f lr; split=> [y|].
  apply: Rmult_le_pos; last by apply/Rlt_le/Rinv_0_lt_compat.
  by apply: Rmult_le_pos; [apply lr | apply/Rlt_le/exp_pos].
by rewrite /gibbs -sum_div -/(E ref (fun y => exp (f y))); field; lra.
Qed.

Lemma gibbs_gt0 ref f y : law ref -> 0 < ref y -> 0 < gibbs ref f y.
Proof.
move=> lr ry; apply: Rdiv_lt_0_compat; last exact: E_exp_gt0.
by apply: Rmult_lt_0_compat (exp_pos _).
Qed.

Lemma gibbs_dominated ref f : gibbs ref f ≪ ref.
Proof. by move=> y e; rewrite /gibbs e; rewrite /Rdiv; ring. Qed.

Lemma dominated_gibbs p ref f : law ref -> p ≪ ref -> p ≪ gibbs ref f.
Proof.
move=> lr pr y e; apply: pr; case: (law_case y lr) => // ry.
by move: (gibbs_gt0 f lr ry); rewrite e; lra.
Qed.

Lemma ln_gibbs ref f y : law ref -> 0 < ref y ->
  ln (gibbs ref f y) = ln (ref y) + f y - ln (E ref (fun z => exp (f z))).
Proof.
move=> lr ry; rewrite /gibbs ln_quotient ?ln_mult ?ln_exp //.
- exact: exp_pos.
- by apply: Rmult_lt_0_compat (exp_pos _).
- exact: E_exp_gt0.
Qed.

Lemma E_gibbs ref f g : law ref -> E (gibbs ref f) g =
  E ref (fun y => g y * exp (f y)) / E ref (fun y => exp (f y)).
Proof.
move=> lr; have z0 := E_exp_gt0 f lr.
rewrite {1}/E [E ref (fun y => g y * _)]/E collect; apply: sum_ext => y.
by rewrite /gibbs; field; lra.
Qed.

(** The identity that most theorems follow from by linear arithmetic. *)
Theorem KL_gibbs p ref f : law p -> law ref -> p ≪ ref ->
  KL p (gibbs ref f) = KL p ref - E p f + ln (E ref (fun y => exp (f y))).
Proof.
move=> lp lr pr; rewrite -(E_const (ln _) lp).
set c := ln _; rewrite /KL [E p f]/E [E p _]/E !collect; apply: sum_ext => y.
case: (law_case y lp) => [->|py]; first by ring.
have ry := dominated_pos lr pr py.
by rewrite (ln_quotient py ry) (ln_quotient py (gibbs_gt0 f lr ry)) ln_gibbs // -/c; ring.
Qed.

Lemma KL_gibbs_self ref f : law ref ->
  KL (gibbs ref f) ref = E (gibbs ref f) f - ln (E ref (fun y => exp (f y))).
Proof.
move=> lr; have lg := gibbs_law f lr; have dom := @gibbs_dominated ref f.
by move: (KL_gibbs f lg lr dom); rewrite KL_refl //; lra.
Qed.

(** KL between two reweightings of the same law. *)
Lemma KL_gibbs_gibbs ref f g : law ref -> KL (gibbs ref f) (gibbs ref g) =
  ln (E ref (fun y => exp (g y))) - ln (E ref (fun y => exp (f y)))
  - (E (gibbs ref f) g - E (gibbs ref f) f).
Proof.
move=> lr; rewrite KL_gibbs ?KL_gibbs_self //; [ring | exact: gibbs_law | exact: gibbs_dominated].
Qed.

(** Reweighting by a function that is constant on the support changes nothing, and conversely. *)
Lemma gibbs_eq_iff ref f g : law ref -> (forall y, gibbs ref f y = gibbs ref g y) <->
  (forall y z, 0 < ref y -> 0 < ref z -> f y - g y = f z - g z).
Proof.
move=> lr; split=> [e y z ry rz|e y].
  have := ln_gibbs f lr ry; have := ln_gibbs f lr rz.
  by rewrite !e !ln_gibbs //; lra.
have [y0 r0] := law_support lr; set c := f y0 - g y0.
have fE z : ref z * exp (f z) = exp c * (ref z * exp (g z)).
  case: (law_case z lr) => [->|rz]; first by ring.
  by rewrite (_ : f z = c + g z) ?exp_plus; [ring | move: (e z y0 rz r0); rewrite -/c; lra].
have ZE : E ref (fun z => exp (f z)) = exp c * E ref (fun z => exp (g z)).
  by rewrite /E collect; apply: sum_ext.
rewrite /gibbs ZE fE; field.
by split; [move: (E_exp_gt0 g lr); lra | move: (exp_pos c); lra].
Qed.

Lemma gibbs_zero ref y : law ref -> gibbs ref (fun _ => 0) y = ref y.
Proof. by move=> lr; rewrite /gibbs E_const // exp_0; field. Qed.

Lemma gibbs_id_iff ref f : law ref -> (forall y, gibbs ref f y = ref y) <->
  (forall y z, 0 < ref y -> 0 < ref z -> f y = f z).
Proof.
move=> lr; have h := gibbs_eq_iff f (fun _ => 0) lr; split=> e.
  by move=> y z ry rz; have /h/(_ y z ry rz): forall y, gibbs ref f y = gibbs ref (fun _ => 0) y;
     [move=> w; rewrite gibbs_zero | lra].
by move=> y; rewrite -[RHS]gibbs_zero //; move: y; apply/h => y z ry rz; rewrite (e y z).
Qed.

(** Reweighting twice is reweighting by the sum. *)
Lemma gibbs_gibbs ref f g y : law ref ->
  gibbs (gibbs ref f) g y = gibbs ref (fun z => f z + g z) y.
Proof.
move=> lr; have z0 := E_exp_gt0 f lr.
have e : E (gibbs ref f) (fun z => exp (g z)) =
         E ref (fun z => exp (f z + g z)) / E ref (fun z => exp (f z)).
  rewrite {1}/E [E ref (fun z => exp (f z + g z))]/E collect; apply: sum_ext => z.
  by rewrite /gibbs exp_plus; field; lra.
rewrite {1}/gibbs e /gibbs exp_plus; field.
by split; [move: (E_exp_gt0 (fun z => f z + g z) lr); lra | lra].
Qed.

(** Donsker-Varadhan inequality. *)
Theorem donsker_varadhan d p f : law d -> law p -> d ≪ p ->
  E d f - KL d p <= ln (E p (fun y => exp (f y))).
Proof.
move=> ld lp dp.
by have := KL_ge0 ld (gibbs_law f lp) (@dominated_gibbs d p f lp dp); rewrite KL_gibbs //; lra.
Qed.

(** ** F3 *)

(** F3, R1. J_b(tilt) - J_b(p) = beta KL(p‖tilt). *)
Theorem regularised_reward_gap p ref r beta : law p -> law ref -> p ≪ ref -> 0 < beta ->
  Jb (tilt ref r beta) ref r beta - Jb p ref r beta = beta * KL p (tilt ref r beta).
Proof.
move=> lp lr pr b0; rewrite /Jb /tilt KL_gibbs_self // KL_gibbs // !E_div; field; lra.
Qed.

(** F3. max J_b = beta log Z. *)
Theorem regularised_reward_value ref r beta : law ref -> 0 < beta ->
  Jb (tilt ref r beta) ref r beta = beta * ln (Z ref r beta).
Proof. move=> lr b0; rewrite /Jb /tilt KL_gibbs_self // E_div -/(Z ref r beta); field; lra. Qed.

(** F3. The tilt is the unique maximiser. *)
Theorem regularised_reward_max p ref r beta : law p -> law ref -> p ≪ ref -> 0 < beta ->
  Jb p ref r beta <= beta * ln (Z ref r beta) /\
  (Jb p ref r beta = beta * ln (Z ref r beta) <-> forall y, p y = tilt ref r beta y).
Proof.
move=> lp lr pr b0; rewrite -regularised_reward_value //.
have lt : law (tilt ref r beta) by exact: gibbs_law.
have pt : p ≪ tilt ref r beta by exact: dominated_gibbs.
have gap := regularised_reward_gap r lp lr pr b0.
have k0 := Rmult_le_pos _ _ (Rlt_le _ _ b0) (KL_ge0 lp lt pt).
split; first by lra.
rewrite -KL_eq0 //; split=> [e|e]; last by rewrite e in gap; lra.
by apply: (Rmult_eq_reg_l beta); lra.
Qed.

(** ** I1 *)

(** I1. Every full-support p is the tilt of ref for the reward beta log(p/ref). *)
Theorem implicit_reward p ref beta : law p -> law ref -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta ->
  forall y, tilt ref (fun z => beta * ln (p z / ref z)) beta y = p y.
Proof.
move=> lp lr p0 r0 b0 y; have tE z : ref z * exp (beta * ln (p z / ref z) / beta) = p z.
  rewrite (_ : _ / beta = ln (p z / ref z)); last by field; lra.
  by rewrite exp_ln; [field; move: (r0 z); lra | exact: Rdiv_lt_0_compat].
rewrite /tilt /gibbs tE (_ : E ref _ = 1); first by field.
by rewrite -(proj2 lp); apply: sum_ext => z; rewrite tE.
Qed.

(** I1. ... and the reward is unique up to a constant. *)
Theorem implicit_reward_unique p ref r beta : law p -> law ref -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta -> (forall y, tilt ref r beta y = p y) ->
  exists c, forall y, r y = beta * ln (p y / ref y) + c.
Proof.
move=> lp lr p0 r0 b0 e; exists (beta * ln (Z ref r beta)) => y.
by rewrite ln_quotient // -e /tilt ln_gibbs // -/(Z ref r beta); field; lra.
Qed.

(** I1. J(p) - J(d) through the implicit reward r' of p. *)
Theorem implicit_reward_gain p d r beta : law p -> law d -> (forall y, 0 < p y) ->
  (forall y, 0 < d y) -> 0 < beta -> let r' y := beta * ln (p y / d y) in
  E p r - E d r = beta * (KL d p + KL p d) + (E p (fun y => r y - r' y) - E d (fun y => r y - r' y)).
Proof.
move=> lp ld p0 d0 b0 r'; rewrite !E_minus.
suff: E p r' - E d r' = beta * (KL d p + KL p d) by lra.
rewrite /E /KL !collect; apply: sum_ext => y; rewrite /r'.
by rewrite !ln_quotient //; ring.
Qed.

Theorem expectation_difference_TV p d f m M : law p -> law d -> (forall y, m <= f y <= M) ->
  Rabs (E p f - E d f) <= (M - m) * TV p d.
Proof.
move=> lp ld mM; set c := (m + M) / 2.
have bound y : Rabs ((p y - d y) * (f y - c)) <= (M - m) / 2 * Rabs (p y - d y).
  rewrite Rabs_mult Rmult_comm; apply: Rmult_le_compat_r (Rabs_pos _) _.
  by apply: Rabs_le; move: (mM y); rewrite /c; lra.
have -> : E p f - E d f = \sum_(y : Y) (p y - d y) * (f y - c).
  have := sum_law_difference lp ld; rewrite /E collect => h.
  rewrite -[LHS]Rminus_0_r -(Rmult_0_r c) -h !collect.
  by apply: sum_ext => y; ring.
have -> : (M - m) * TV p d = \sum_(y : Y) (M - m) / 2 * Rabs (p y - d y).
  by rewrite -sum_scal /TV; field.
apply: Rabs_le; split; first rewrite collect; apply: sum_le => y; move: (bound y);
  by case: (Rcase_abs ((p y - d y) * (f y - c))) => s; rewrite /Rabs; case: Rcase_abs; lra.
Qed.

End Gibbs.
