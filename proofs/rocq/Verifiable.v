(** * Verifiable rewards (V1: a reward that is 1 on a set A and 0 outside), and training on one reward
    while judging by another (G1) *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Foundations Concentration SftThenRl.
From NonDecoupling Require Import PriceOfReward RlThenSft Landscape.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

(** KL between two coins, and log-odds. *)
Definition coin_kl (a b : R) := a * ln (a / b) + (1 - a) * ln ((1 - a) / (1 - b)).
Definition logit (a : R) := ln (a / (1 - a)).

Lemma logit_gt0 a : 0 < a < 1 -> 0 < a / (1 - a).
Proof. by move=> a01; apply: Rdiv_lt_0_compat; lra. Qed.

Lemma logit_increasing a b : 0 < a -> a < b -> b < 1 -> logit a < logit b.
Proof.
move=> a0 ab b1; apply: ln_increasing; first by apply: logit_gt0; lra.
apply: (Rmult_lt_reg_r (1 - a)); first by lra.
apply: (Rmult_lt_reg_r (1 - b)); first by lra.
rewrite (_ : a / (1 - a) * (1 - a) * (1 - b) = a * (1 - b)); last by field; lra.
by rewrite (_ : b / (1 - b) * (1 - a) * (1 - b) = b * (1 - a)); [lra | field; lra].
Qed.

Lemma logit_injective a b : 0 < a < 1 -> 0 < b < 1 -> logit a = logit b -> a = b.
Proof.
move=> a01 b01 e; case: (Rtotal_order a b) => [h|[//|h]].
  by have := @logit_increasing a b; lra.
by have := @logit_increasing b a; lra.
Qed.

Section Verifiable.
Variables (Y : finType) (A : Y -> bool).
Implicit Types (p d ref f : Y -> R) (beta c : R).

(** The reward 1_A; its expectation is the success rate p(A). *)
Definition hit y : R := if A y then 1 else 0.
Definition success p := E p hit.

Lemma hit_01 y : 0 <= hit y <= 1.
Proof. by rewrite /hit; case: (A y); lra. Qed.

Lemma success_01 p : law p -> 0 <= success p <= 1.
Proof. by move=> lp; apply: E_bounds => // y; exact: hit_01. Qed.

Lemma success_sum p : success p = \sum_(y : Y) if A y then p y else 0.
Proof. by apply: sum_ext => y; rewrite /hit; case: (A y); ring. Qed.

Lemma failure_sum p : law p -> 1 - success p = \sum_(y : Y) if A y then 0 else p y.
Proof.
move=> lp; rewrite -{1}(proj2 lp) success_sum collect; apply: sum_ext => y.
by case: (A y); ring.
Qed.

(** Reweighting A by a and its complement by b. *)
Lemma E_weights p (a b : R) : law p ->
  E p (fun y => if A y then a else b) = success p * a + (1 - success p) * b.
Proof.
move=> lp; rewrite failure_sum // success_sum Rmult_comm (Rmult_comm _ b) !collect.
by apply: sum_ext => y; case: (A y); ring.
Qed.

Lemma Z_hit ref beta : law ref -> Z ref hit beta = success ref * exp (/ beta) + (1 - success ref).
Proof.
move=> lr; rewrite -[X in _ + X]Rmult_1_r -E_weights //; apply: E_ext => y; rewrite /hit.
by case: (A y); rewrite /Rdiv ?Rmult_1_l // Rmult_0_l exp_0.
Qed.

Lemma success_tilt ref beta : law ref ->
  success (tilt ref hit beta) = success ref * exp (/ beta) / Z ref hit beta.
Proof.
move=> lr; rewrite /success /tilt E_gibbs // -/(Z ref hit beta); congr (_ / _).
rewrite (Rmult_comm (success ref)) /success -E_scal; apply: E_ext => y.
rewrite /hit; case: (A y); last by ring.
by rewrite /Rdiv !Rmult_1_l Rmult_1_r.
Qed.

(** V1. In log-odds, the tilt adds 1/beta to the success rate. *)
Theorem logit_tilt ref beta : law ref -> 0 < success ref < 1 ->
  let c := success (tilt ref hit beta) in 0 < c < 1 /\ logit c = logit (success ref) + / beta.
Proof.
move=> lr a01 c; have e0 := exp_pos (/ beta); set a := success ref in a01 *.
have zE := Z_hit beta lr; rewrite -/a in zE.
have ae := Rmult_lt_0_compat _ _ (proj1 a01) e0.
have z0 : 0 < Z ref hit beta by rewrite zE; lra.
have cE : c = a * exp (/ beta) / Z ref hit beta by exact: success_tilt.
have c1 : 1 - c = (1 - a) / Z ref hit beta by rewrite cE zE; field; rewrite -zE; lra.
have c0 : 0 < c by rewrite cE; exact: Rdiv_lt_0_compat.
have d0 : 0 < 1 - c by rewrite c1; apply: Rdiv_lt_0_compat; lra.
split; first by lra.
rewrite /logit (_ : c / (1 - c) = a / (1 - a) * exp (/ beta)); last by rewrite c1 cE; field; lra.
by rewrite ln_mult ?ln_exp //; exact: logit_gt0.
Qed.

(** V1. The beta that reaches a target c above ref(A). *)
Theorem beta_for_target ref c : law ref -> 0 < success ref -> success ref < c < 1 ->
  let beta := / (logit c - logit (success ref)) in 0 < beta /\ success (tilt ref hit beta) = c.
Proof.
move=> lr a0 c01 beta; have := @logit_increasing _ _ a0 (proj1 c01) (proj2 c01) => lt.
have b0 : 0 < beta by apply: Rinv_0_lt_compat; lra.
have [t01 e] := @logit_tilt ref beta lr ltac:(lra); split=> //.
apply: logit_injective => //; first by lra.
by rewrite e /beta Rinv_inv; lra.
Qed.

(** V1. Its cost in SFT loss, with ref = d, is the price of that reward. *)
Theorem verifiable_cost d beta : law d -> 0 < success d < 1 -> 0 < beta ->
  let c := success (tilt d hit beta) in
  CE d (tilt d hit beta) - CE d d = coin_kl (success d) c /\
  (forall p, law p -> d ≪ p -> c <= success p -> coin_kl (success d) c <= KL d p).
Proof.
move=> ld a01 b0 c; set a := success d in a01 *.
have [c01 e] := @logit_tilt d beta ld a01; rewrite -/c -/a in c01 e.
have e0 := exp_pos (/ beta); have ae := Rmult_lt_0_compat _ _ (proj1 a01) e0.
have zE := Z_hit beta ld; rewrite -/a in zE.
have z0 : 0 < Z d hit beta by rewrite zE; lra.
have cE : c = a * exp (/ beta) / Z d hit beta by exact: success_tilt.
have c1 : 1 - c = (1 - a) / Z d hit beta by rewrite cE zE; field; rewrite -zE; lra.
split=> [|p lp dp cp].
  rewrite loss_change_tilt // /coin_kl c1 cE -/(success d) -/a.
  rewrite (_ : a / (a * exp (/ beta) / Z d hit beta) = Z d hit beta * exp (- / beta)); last first.
    by rewrite exp_Ropp; field; lra.
  rewrite (_ : (1 - a) / ((1 - a) / Z d hit beta) = Z d hit beta); last by field; lra.
  rewrite ln_mult ?ln_exp //; [rewrite /Rdiv; ring | exact: exp_pos].
have ac : a <= c.
  apply: Rnot_lt_le => h; have := @logit_increasing c a; rewrite e.
  by have := Rinv_0_lt_compat _ b0; lra.
have := @price_of_reward_bernoulli Y d hit c 1 ld (fun y => proj2 (hit_01 y)) (proj2 c01) p 0 lp dp
  (fun y => proj1 (hit_01 y)) (proj1 a01) ac cp.
by rewrite /coin_kl !Rminus_0_r !Rdiv_1.
Qed.

(** ** The least KL at a success rate *)

(** ref with its conditional laws on A and outside kept, and success c. *)
Definition at_success ref c y := if A y then c / success ref * ref y
                                 else (1 - c) / (1 - success ref) * ref y.

Lemma at_success_law ref c : law ref -> 0 < success ref < 1 -> 0 <= c <= 1 ->
  law (at_success ref c) /\ success (at_success ref c) = c.
Proof.
move=> lr a01 c01; have [a aE] : { a | a = success ref } by exists (success ref).
have aS := aE; rewrite success_sum in aS; have aF := failure_sum lr; rewrite -aE in a01 aF.
have sE : success (at_success ref c) = c.
  rewrite success_sum (_ : \sum_(y : Y) _ = c / a * a); first by field; lra.
  rewrite {2}aS collect; apply: sum_ext => y; rewrite /at_success -aE; case: (A y); ring.
split=> //; split=> [y|].
  have r0 := proj1 lr y; rewrite /at_success -aE.
  by case: (A y); apply: Rmult_le_pos => //; apply: Rle_mult_inv_pos; lra.
have fE : \sum_(y : Y) (if A y then 0 else at_success ref c y) = 1 - c.
  rewrite (_ : \sum_(y : Y) _ = (1 - c) / (1 - a) * (1 - a)); first by field; lra.
  rewrite [X in _ = _ * X]aF collect; apply: sum_ext => y; rewrite /at_success -aE; case: (A y); ring.
have one : c + (1 - c) = 1 by ring.
by rewrite -[RHS]one -[X in _ = X + _]sE -fE success_sum collect; apply: sum_ext => y; case: (A y); ring.
Qed.

(** V1. KL(p‖ref) = kl(p(A), ref(A)) + KL(p‖q), q = ref with success p(A). *)
Theorem KL_at_success p ref : law p -> law ref -> p ≪ ref -> 0 < success ref < 1 ->
  KL p ref = coin_kl (success p) (success ref) + KL p (at_success ref (success p)).
Proof.
move=> lp lr pr a01; set a := success ref in a01 *.
have [c cE] : { c | c = success p } by exists (success p).
have c01 := success_01 lp; rewrite -cE in c01 *.
have -> : coin_kl c a = E p (fun y => if A y then ln (c / a) else ln ((1 - c) / (1 - a))).
  by rewrite E_weights // -cE.
rewrite /KL /E !collect; apply: sum_ext => y.
case: (law_case y lp) => [->|py]; first by ring.
have ry := dominated_pos lr pr py; rewrite /at_success -/a.
have hitp : A y -> 0 < c.
  move=> Ay; have : p y * hit y <= c.
    by rewrite cE; apply: (@term_le_sum _ (fun y => p y * hit y)) => z; apply: Rmult_le_pos;
      [apply lp | case: (hit_01 z)].
  by rewrite /hit Ay; lra.
have missp : ~~ A y -> 0 < 1 - c.
  move=> Ay; rewrite cE failure_sum //; apply: (sum_gt0 (y := y)) => [z|]; last by rewrite (negbTE Ay).
  by case: (A z); [lra | apply lp].
case: ifPn => Ay.
  have c0 := hitp Ay; have q0 : 0 < c / a by apply: Rdiv_lt_0_compat; lra.
  rewrite (ln_quotient py ry) (ln_quotient py (Rmult_lt_0_compat _ _ q0 ry)) (ln_mult _ _ q0 ry); ring.
have c0 := missp Ay; have q0 : 0 < (1 - c) / (1 - a) by apply: Rdiv_lt_0_compat; lra.
rewrite (ln_quotient py ry) (ln_quotient py (Rmult_lt_0_compat _ _ q0 ry)) (ln_mult _ _ q0 ry); ring.
Qed.

(** V1. The least KL at success c is kl(c, ref(A)), attained by unchanged conditional laws only. *)
Theorem least_KL_at_success p ref : law p -> law ref -> p ≪ ref -> 0 < success ref < 1 ->
  coin_kl (success p) (success ref) <= KL p ref /\
  (KL p ref = coin_kl (success p) (success ref) <-> forall y, p y = at_success ref (success p) y).
Proof.
move=> lp lr pr a01; rewrite (KL_at_success lp lr pr a01).
have [lq qE] := at_success_law lr a01 (success_01 lp).
have pq : p ≪ at_success ref (success p).
  move=> y; case: (law_case y lp) => // py; have ry := dominated_pos lr pr py.
  rewrite /at_success; case: ifPn => Ay /Rmult_integral[|]; try lra; move=> e.
    suff: 0 < success p / success ref by lra.
    apply: Rdiv_lt_0_compat; last by lra.
    apply: (sum_gt0 (y := y)) => [z|]; last by rewrite /hit Ay; lra.
    by apply: Rmult_le_pos; [apply lp | case: (hit_01 z)].
  suff: 0 < (1 - success p) / (1 - success ref) by lra.
  apply: Rdiv_lt_0_compat; last by lra.
  rewrite failure_sum //; apply: (sum_gt0 (y := y)) => [z|]; last by rewrite (negbTE Ay).
  by case: (A z); [lra | apply lp].
have k0 := KL_ge0 lp lq pq; split; first by lra.
by rewrite -KL_eq0 //; split; lra.
Qed.

(** V1. The chain rule over A and its complement, with the conditional laws. *)
Theorem KL_conditional p ref : law p -> law ref -> p ≪ ref -> 0 < success ref < 1 ->
  let on q y := if A y then q y / success q else 0 in
  let off q y := if A y then 0 else q y / (1 - success q) in
  KL p ref = coin_kl (success p) (success ref) + success p * KL (on p) (on ref) +
             (1 - success p) * KL (off p) (off ref).
Proof.
move=> lp lr pr a01 on off; rewrite (KL_at_success lp lr pr a01) Rplus_assoc; congr (_ + _).
have c01 := success_01 lp; have [c cE] : { c | c = success p } by exists (success p).
have [a aE] : { a | a = success ref } by exists (success ref).
rewrite -cE in c01 *; rewrite -aE in a01 *.
rewrite /KL !collect; apply: sum_ext => y; rewrite /on /off /at_success -cE -aE.
case: (law_case y lp) => [->|py].
  by case: (A y); rewrite /Rdiv; ring.
have ry := dominated_pos lr pr py.
case: ifPn => Ay.
  have c0 : 0 < c.
    rewrite cE; apply: (sum_gt0 (y := y)) => [z|]; last by rewrite /hit Ay; lra.
    by apply: Rmult_le_pos; [apply lp | case: (hit_01 z)].
  rewrite (_ : p y / (c / a * ref y) = p y / c / (ref y / a)); last by field; lra.
  by field; lra.
have c0 : 0 < 1 - c.
  rewrite cE failure_sum //; apply: (sum_gt0 (y := y)) => [z|]; last by rewrite (negbTE Ay).
  by case: (A z); [lra | apply lp].
rewrite (_ : p y / ((1 - c) / (1 - a) * ref y) = p y / (1 - c) / (ref y / (1 - a))); last first.
  by field; lra.
by field; lra.
Qed.

(** V1. The tilt is the policy with the least KL at its success rate. *)
Theorem tilt_least_KL ref beta y : law ref -> 0 < success ref < 1 ->
  tilt ref hit beta y = at_success ref (success (tilt ref hit beta)) y.
Proof.
move=> lr a01; have zE := Z_hit beta lr; have e0 := exp_pos (/ beta).
have z0 : 0 < Z ref hit beta by exact: E_exp_gt0.
have c1 : 1 - success (tilt ref hit beta) = (1 - success ref) / Z ref hit beta.
  by rewrite success_tilt // zE; field; rewrite -zE; lra.
rewrite /at_success c1 success_tilt // /tilt /gibbs -/(Z ref hit beta).
move: (Z ref hit beta) z0 => z z0; rewrite /hit.
case: (A y); first by rewrite /Rdiv Rmult_1_l; field; lra.
by rewrite /Rdiv Rmult_0_l exp_0; field; lra.
Qed.

(** V1. pass@k rises at the exact optimum. *)
Theorem pass_at_k_rises ref beta k : law ref -> 0 < success ref < 1 -> 0 < beta -> (0 < k)%nat ->
  1 - (1 - success ref) ^ k < 1 - (1 - success (tilt ref hit beta)) ^ k.
Proof.
move=> lr a01 b0 k0; have [c01 e] := logit_tilt beta lr a01.
have ac : success ref < success (tilt ref hit beta).
  apply: Rnot_le_lt => -[h|h].
    have := logit_increasing (proj1 c01) h (proj2 a01); rewrite e.
    by have := Rinv_0_lt_compat _ b0; lra.
  by rewrite h in e; have := Rinv_0_lt_compat _ b0; lra.
suff: (1 - success (tilt ref hit beta)) ^ k < (1 - success ref) ^ k by lra.
case: k k0 => // k _; elim: k => [|k IH]; first by rewrite !pow_1; lra.
rewrite -!(tech_pow_Rmult _ k.+1); apply: Rmult_le_0_lt_compat; try lra.
by apply: pow_le; lra.
Qed.

End Verifiable.

(** V1, refuted: "policy gradient finds the KL-minimal solution". On the path of T10 from ref =
    (1/2, 1/4, 1/4), with r = 1 on the first two responses, sigma = 20/3, tau = 23/3, the policy is
    (96, 32, 9)/137; q keeps the conditional laws of ref, has its success rate and a smaller KL. *)
Theorem razor_refuted : let ref := three (1 / 2) (1 / 4) (1 / 4) : ordinal_finType 3 -> R in
  let r := three 1 1 0 : ordinal_finType 3 -> R in
  let sigma := 20 / 3 in let tau := 23 / 3 in
  let w y := / (/ ref y + (sigma - tau * r y)) in
  let p y := w y / sum w in
  let q := three (256 / 411) (128 / 411) (9 / 137) : ordinal_finType 3 -> R in
  law ref /\ law p /\ law q /\ (forall y, 0 < / ref y + (sigma - tau * r y)) /\
  \sum_(y : ordinal_finType 3) ln (1 + ref y * (sigma - tau * r y)) = 0 /\
  p ord0 = 96 / 137 /\ p (lift ord0 ord0) = 32 / 137 /\ p (lift ord0 (lift ord0 ord0)) = 9 / 137 /\
  E q r = E p r /\ KL q ref < KL p ref.
Proof.
move=> ref r sigma tau w p q; set i0 := ord0 : 'I_3; set i1 := lift ord0 ord0 : 'I_3.
set i2 := lift ord0 (lift ord0 ord0) : 'I_3.
have [r0 [r1 r2]] : r i0 = 1 /\ r i1 = 1 /\ r i2 = 0 by [].
have [f0 [f1 f2]] : ref i0 = 1 / 2 /\ ref i1 = 1 / 4 /\ ref i2 = 1 / 4 by [].
have [q0 [q1 q2]] : q i0 = 256 / 411 /\ q i1 = 128 / 411 /\ q i2 = 9 / 137 by [].
have w0 : w i0 = 1 by rewrite /w f0 r0 /sigma /tau; field.
have w1 : w i1 = 1 / 3 by rewrite /w f1 r1 /sigma /tau; field.
have w2 : w i2 = 3 / 32 by rewrite /w f2 r2 /sigma /tau; field.
have s : sum w = 137 / 96 by have -> : sum w = w i0 + w i1 + w i2; [exact: sum_three | lra].
have p0 : p i0 = 96 / 137 by rewrite /p w0 s; field.
have p1 : p i1 = 32 / 137 by rewrite /p w1 s; field.
have p2 : p i2 = 9 / 137 by rewrite /p w2 s; field.
have inv y : y = i0 \/ y = i1 \/ y = i2.
  case: y => [[|[|[|n]]] h] //; [left | right; left | right; right]; exact: val_inj.
have lr : law ref.
  by split=> [y|]; [case: (inv y) => [|[|]] -> | rewrite sum_three]; rewrite ?f0 ?f1 ?f2; lra.
have lp : law p.
  by split=> [y|]; [case: (inv y) => [|[|]] -> | rewrite sum_three]; rewrite ?p0 ?p1 ?p2; lra.
have lq : law q.
  by split=> [y|]; [case: (inv y) => [|[|]] -> | rewrite sum_three]; rewrite ?q0 ?q1 ?q2; lra.
do 3 split=> //; split.
  by move=> y; case: (inv y) => [|[|]] ->; rewrite ?f0 ?f1 ?f2 ?r0 ?r1 ?r2 /sigma /tau; lra.
split.
  rewrite sum_three f0 f1 f2 r0 r1 r2 /sigma /tau -!ln_mult; try lra.
  by apply: eq_trans ln_1; congr ln; field.
do 3 split=> //; split; first by rewrite /E !sum_three r0 r1 r2 p0 p1 p2 q0 q1 q2; lra.
pose A (y : ordinal_finType 3) := (val y < 2)%nat.
have [A0 [A1 A2]] : A i0 = true /\ A i1 = true /\ A i2 = false by [].
have sA (h : ordinal_finType 3 -> R) : success A h = h i0 + h i1.
  have -> : success A h = h i0 * hit A i0 + h i1 * hit A i1 + h i2 * hit A i2 by exact: sum_three.
  by rewrite /hit A0 A1 A2; ring.
have a01 : 0 < success A ref < 1 by rewrite sA f0 f1; lra.
have full t : law t -> t ≪ ref.
  by move=> _; apply: full_dominates => y; case: (inv y) => [|[|]] ->; rewrite ?f0 ?f1 ?f2; lra.
have [_ [_ eq]] := least_KL_at_success lq lr (full q lq) a01.
have [le [iff _]] := least_KL_at_success lp lr (full p lp) a01.
have sp : success A p = 128 / 137 by rewrite sA p0 p1; field.
have sq : success A q = 128 / 137 by rewrite sA q0 q1; field.
rewrite eq; last first.
  by move=> y; case: (inv y) => [|[|]] ->; rewrite /at_success /= sq sA f0 f1 ?f2 ?q0 ?q1 ?q2; field.
rewrite sq -sp; case: le => // e; have := iff (esym e) i0.
by rewrite /at_success /= sp sA p0 f0 f1; lra.
Qed.

(** ** G1 *)
Section Gold.
Variable Y : finType.
Implicit Types (p ref r g f : Y -> R) (s m M : R).

(** G1. The gold reward along the tilts of the proxy r moves by their covariance. *)
Theorem gold_derivative ref r g s : law ref ->
  is_derive (fun s => E (tilt_at ref r s) g) s
    (E (tilt_at ref r s) (fun y =>
       (g y - E (tilt_at ref r s) g) * (r y - E (tilt_at ref r s) r))).
Proof.
move=> lr; have z0 := E_exp_gt0 (fun y => s * r y) lr.
have ls : law (tilt_at ref r s) by exact: gibbs_law.
apply: (is_derive_ext (fun s => E ref (fun y => g y * exp (s * r y)) / E ref (fun y => exp (s * r y)))) =>
  [t|]; first by rewrite E_tilt_at.
have := is_derive_div _ _ _ _ _ (is_derive_moment ref r g s) (is_derive_partition ref r s)
  ltac:(cbv beta; lra).
set a := E (tilt_at ref r s) g; set b := E (tilt_at ref r s) r.
have -> : E (tilt_at ref r s) (fun y => (g y - a) * (r y - b)) =
          E (tilt_at ref r s) (fun y => g y * r y) - a * b.
  rewrite (@E_ext _ _ _ (fun y => g y * r y - (a * r y + (b * g y - a * b)))); last by move=> y; ring.
  by rewrite E_minus E_plus E_minus !E_scal E_const // -/a -/b; ring.
rewrite /a /b !E_tilt_at //.
set x := E ref (fun y => g y * r y * _); set u := E ref (fun y => exp _).
set v := E ref (fun y => g y * exp _); set w := E ref (fun y => r y * exp _).
by rewrite (_ : (x * u - v * w) / u ^ 2 = x / u - v / u * (w / u)) //; field; rewrite /u; lra.
Qed.

(** G1. While the covariance is positive, the gold reward rises. *)
Theorem gold_rises ref r g s t : law ref -> s < t ->
  (forall u, s <= u <= t -> 0 < E (tilt_at ref r u) (fun y =>
     (g y - E (tilt_at ref r u) g) * (r y - E (tilt_at ref r u) r))) ->
  E (tilt_at ref r s) g < E (tilt_at ref r t) g.
Proof.
move=> lr st cov; have d u := gold_derivative r g u lr.
have [||c [hc e]] := @MVT_gen (fun s => E (tilt_at ref r s) g) s t (fun u => E (tilt_at ref r u)
  (fun y => (g y - E (tilt_at ref r u) g) * (r y - E (tilt_at ref r u) r))).
- by move=> u _; exact: d.
- by move=> u _; apply/continuity_pt_filterlim/ex_derive_continuous; eexists; exact: d.
rewrite Rmin_left ?Rmax_right in hc; try lra.
by have := Rmult_lt_0_compat _ (t - s) (cov c hc) ltac:(lra); lra.
Qed.

(** G1. Any policy: the gold gain is at least the proxy gain less what the gap can take. *)
Theorem gold_gain p ref r g m M : law p -> law ref -> p ≪ ref -> (forall y, m <= r y - g y <= M) ->
  E p r - E ref r - (M - m) * sqrt (KL p ref / 2) <= E p g - E ref g.
Proof.
move=> lp lr pr mM; have [y0 _] := law_support lp.
have w0 : 0 <= M - m by move: (mM y0); lra.
have := abs_le_sqrt w0 (KL_ge0 lp lr pr) (pinsker lp lr pr mM); rewrite !E_minus.
by move/Rabs_le_between; lra.
Qed.

(** G1. Sharper: the coins with the means of f have at most the KL of the policies. *)
Theorem coin_kl_le_KL p ref f : law p -> law ref -> p ≪ ref -> (forall y, 0 <= f y <= 1) ->
  0 < E ref f < 1 -> coin_kl (E p f) (E ref f) <= KL p ref.
Proof.
move=> lp lr pr f01 a01.
pose join q (z : prod_finType Y bool_finType) := q z.1 * coin (f z.1) z.2.
have c01 y : @law bool_finType (coin (f y)) by exact: coin_law.
have mass (q : Y -> R) : \sum_(z : prod_finType Y bool_finType)
   (q z.1 * coin (f z.1) z.2 * if z.2 then 1 else 0) = E q f.
  by rewrite sum_pair; apply: sum_ext => y; rewrite sum_bool /=; ring.
have jl q : law q -> law (join q).
  move=> lq; split=> [z|]; first by apply: Rmult_le_pos; [apply lq | apply c01].
  by rewrite sum_pair -(proj2 lq); apply: sum_ext => y; rewrite sum_bool /join /=; ring.
have jd : join p ≪ join ref.
  by move=> z; rewrite /join => /Rmult_integral [/pr e|e]; rewrite e; ring.
have k : KL (join p) (join ref) = KL p ref.
  rewrite /KL sum_pair; apply: sum_ext => y.
  have term b : join p (y, b) * ln (join p (y, b) / join ref (y, b)) =
                coin (f y) b * (p y * ln (p y / ref y)).
    rewrite /join /=; case: (law_case y lp) => [->|py]; first by rewrite !Rmult_0_l; ring.
    have ry := dominated_pos lr pr py; case: (law_case b (c01 y)) => [->|cy]; first by ring.
    rewrite (_ : p y * coin (f y) b / (ref y * coin (f y) b) = p y / ref y); [ring | field; lra].
  by rewrite sum_bool !term /coin; ring.
pose S (z : prod_finType Y bool_finType) := z.2.
have sE q : success S (join q) = E q f by exact: mass.
have s01 : 0 < success S (join ref) < 1 by rewrite sE.
by have [le _] := least_KL_at_success (jl p lp) (jl ref lr) jd s01; rewrite !sE k in le.
Qed.

End Gold.
