(** * RL, then SFT: what SFT does to the reward, and when it lowers it (R1-R8)

    A "drop" is J(tilt) - J(p), where p is any SFT result. *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From NonDecoupling Require Import Sums Calculus Policies Foundations Concentration SftThenRl.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

Section RlThenSft.
Variable Y : finType.
Implicit Types (p d ref : Y -> R) (r : Y -> R) (beta s t m M a A : R).

Lemma KL_p_tilt_ge0 p ref r beta : law p -> law ref -> p ≪ ref -> 0 <= KL p (tilt ref r beta).
Proof. by move=> lp lr pr; apply: KL_ge0 => //; [exact: gibbs_law | exact: dominated_gibbs]. Qed.

(** ** R1: regularised reward *)
Theorem regularised_drop_bounds p ref r beta a A : law p -> law ref -> p ≪ ref -> 0 < beta ->
  a <= KL p (tilt ref r beta) <= A ->
  beta * a <= Jb (tilt ref r beta) ref r beta - Jb p ref r beta <= beta * A.
Proof.
by move=> lp lr pr b0 [lo hi]; rewrite regularised_reward_gap //; split; apply: Rmult_le_compat_l; lra.
Qed.

(** ** R2: raw reward, three points *)
Theorem reward_drop p ref r beta : law p -> law ref -> p ≪ ref -> 0 < beta ->
  E (tilt ref r beta) r - E p r =
  beta * (KL p (tilt ref r beta) + KL (tilt ref r beta) ref - KL p ref).
Proof. by move=> lp lr pr b0; rewrite /tilt KL_gibbs // KL_gibbs_self // !E_div; field; lra. Qed.

Theorem reward_drop_iff p ref r beta : law p -> law ref -> p ≪ ref -> 0 < beta ->
  E p r < E (tilt ref r beta) r <-> KL p ref < KL p (tilt ref r beta) + KL (tilt ref r beta) ref.
Proof.
move=> lp lr pr b0; have := reward_drop r lp lr pr b0.
set k := _ + _ - KL p ref => e; split=> h; last first.
  by have := Rmult_lt_0_compat beta k b0 ltac:(rewrite /k; lra); lra.
suff: 0 < k by rewrite /k; lra.
by apply: (Rmult_lt_reg_l beta); lra.
Qed.

(** ** R3: raw reward in the KL ball *)
Theorem reward_drop_in_kl_ball p ref r beta : law p -> law ref -> p ≪ ref -> 0 < beta ->
  KL p ref <= KL (tilt ref r beta) ref ->
  E p r <= E (tilt ref r beta) r - beta * KL p (tilt ref r beta).
Proof.
move=> lp lr pr b0 ball; have := reward_drop r lp lr pr b0.
by have := Rmult_le_compat_l _ _ _ (Rlt_le _ _ b0) ball; lra.
Qed.

Theorem reward_drop_in_kl_ball_strict p ref r beta y : law p -> law ref -> p ≪ ref -> 0 < beta ->
  KL p ref <= KL (tilt ref r beta) ref -> p y <> tilt ref r beta y ->
  E p r < E (tilt ref r beta) r.
Proof.
move=> lp lr pr b0 ball neq; have := reward_drop_in_kl_ball lp lr pr b0 ball.
have k0 := KL_gt0 lp (gibbs_law _ lr) (@dominated_gibbs _ p ref (fun y => r y / beta) lr pr) neq.
by have := Rmult_lt_0_compat _ _ b0 k0; rewrite -/(tilt ref r beta); lra.
Qed.

(** ** R4: size of the change *)
Theorem reward_change_pinsker p ref r beta m M : law p -> law ref -> p ≪ ref ->
  (forall y, m <= r y <= M) ->
  Rabs (E p r - E (tilt ref r beta) r) <= (M - m) * sqrt (KL p (tilt ref r beta) / 2).
Proof.
move=> lp lr pr mM; apply: abs_le_sqrt; last 1 first.
- by apply: pinsker => //; [exact: gibbs_law | exact: dominated_gibbs].
- by case: (law_support lp) => y _; move: (mM y); lra.
- exact: KL_p_tilt_ge0.
Qed.

Theorem reward_change_bretagnolle_huber p ref r beta m M : law p -> law ref -> p ≪ ref ->
  (forall y, m <= r y <= M) ->
  Rabs (E p r - E (tilt ref r beta) r) <= (M - m) * sqrt (1 - exp (- KL p (tilt ref r beta))).
Proof.
move=> lp lr pr mM; have lt : law (tilt ref r beta) by exact: gibbs_law.
have pt : p ≪ tilt ref r beta by exact: dominated_gibbs.
apply: (Rle_trans _ _ _ (expectation_difference_TV lp lt mM)).
apply: Rmult_le_compat_l; first by case: (law_support lp) => y _; move: (mM y); lra.
have tv0 : 0 <= TV p (tilt ref r beta).
  by apply: Rle_mult_inv_pos; [apply: sum_ge0 => y; exact: Rabs_pos | lra].
rewrite -[X in X <= _](sqrt_pow2 _ tv0); apply: sqrt_le_1_alt; exact: bretagnolle_huber.
Qed.

(** Bernstein, one-sided: b is max r - E_tilt r for a rise, E_tilt r - min r for a drop. *)
Theorem reward_rise_bernstein p ref r beta M : law p -> law ref -> p ≪ ref -> (forall y, r y <= M) ->
  let t := tilt ref r beta in E t r < M ->
  E p r - E t r <= sqrt (2 * KL p t * Var t r) + (M - E t r) * KL p t / 3.
Proof.
move=> lp lr pr rM t tM; have lt : law t by exact: gibbs_law.
have pt : p ≪ t by exact: dominated_gibbs.
have -> : E p r - E t r = E p (fun y => r y - E t r) by rewrite E_minus E_const.
apply: bernstein_transport => //; [by rewrite E_minus E_const //; ring | by lra |].
by move=> y; move: (rM y); lra.
Qed.

Theorem reward_drop_bernstein p ref r beta m : law p -> law ref -> p ≪ ref -> (forall y, m <= r y) ->
  let t := tilt ref r beta in m < E t r ->
  E t r - E p r <= sqrt (2 * KL p t * Var t r) + (E t r - m) * KL p t / 3.
Proof.
move=> lp lr pr rm t tm; have lt : law t by exact: gibbs_law.
have pt : p ≪ t by exact: dominated_gibbs.
have -> : E t r - E p r = E p (fun y => E t r - r y) by rewrite E_minus E_const.
have -> : Var t r = E t (fun y => (E t r - r y) ^ 2) by apply: E_ext => y; ring.
apply: bernstein_transport => //; [by rewrite E_minus E_const //; ring | by lra |].
by move=> y; move: (rm y); lra.
Qed.

(** Exact extremes of J over the ball around tilt_s whose radius is KL(tilt_{s+t}‖tilt_s). *)
Lemma ball_identity p ref r s t : law p -> law ref -> p ≪ ref ->
  t * (E (tilt_at ref r (s + t)) r - E p r) =
  KL (tilt_at ref r (s + t)) (tilt_at ref r s) - KL p (tilt_at ref r s) + KL p (tilt_at ref r (s + t)).
Proof.
by move=> lp lr pr; rewrite KL_tilt_at // /tilt_at !KL_gibbs // !E_scal; ring.
Qed.

Theorem reward_extremes p ref r s t : law p -> law ref -> p ≪ ref ->
  KL p (tilt_at ref r s) <= KL (tilt_at ref r (s + t)) (tilt_at ref r s) ->
  (0 < t -> E p r <= E (tilt_at ref r (s + t)) r) /\
  (t < 0 -> E (tilt_at ref r (s + t)) r <= E p r).
Proof.
move=> lp lr pr ball; have id := ball_identity r s t lp lr pr.
have k0 := KL_ge0 lp (gibbs_law (fun y => (s + t) * r y) lr)
                  (@dominated_gibbs _ p ref (fun y => (s + t) * r y) lr pr).
rewrite -/(tilt_at ref r (s + t)) in k0.
by split=> t0; [apply: (Rmult_le_reg_l t) | apply: (Rmult_le_reg_l (- t))]; lra.
Qed.

(** ** R5: "SFT after RL always lowers the raw reward" is refuted *)

(** (ii) Moving mass within the level sets of r leaves the reward as it is. [K y z] is the mass
    moved from y to z. *)
Theorem level_sets_keep_reward p p' r (K : Y -> Y -> R) :
  (forall y, \sum_(z : Y) K y z = p y) -> (forall z, \sum_(y : Y) K y z = p' z) ->
  (forall y z, K y z <> 0 -> r y = r z) -> E p' r = E p r.
Proof.
move=> Kp Kp' lev.
have -> : E p' r = \sum_(z : Y) \sum_(y : Y) (K y z * r z).
  apply: sum_ext => z; rewrite -Kp' Rmult_comm collect; apply: sum_ext => y; ring.
rewrite -sum_exchange; apply: sum_ext => y; rewrite -Kp Rmult_comm collect; apply: sum_ext => z.
by case: (Req_dec (K y z) 0) => [->|/lev ->]; ring.
Qed.

(** For every reward that is not constant some policy beats the tilt: the tilt at twice the time. *)
Theorem some_policy_beats_tilt ref r beta : law ref -> 0 < beta ->
  (exists y z, 0 < ref y /\ 0 < ref z /\ r y <> r z) ->
  exists p, law p /\ p ≪ ref /\ E (tilt ref r beta) r < E p r.
Proof.
move=> lr b0 nc; exists (tilt_at ref r (2 / beta)); split; first exact: gibbs_law.
split; first exact: gibbs_dominated.
have i0 := Rinv_0_lt_compat _ b0.
have := @reward_strictly_monotone _ ref r (1 / beta) (2 / beta) lr ltac:(rewrite /Rdiv; lra) nc.
rewrite (@E_law_ext _ (tilt_at ref r (1 / beta)) (tilt ref r beta)) // => y.
by rewrite /tilt_at /tilt; move: y; apply/gibbs_eq_iff => // y z _ _; rewrite /Rdiv; ring.
Qed.

(** ** R7: along the way *)

Definition mixture p d t (y : Y) := (1 - t) * p y + t * d y.

Lemma mixture_law p d t : law p -> law d -> 0 <= t <= 1 -> law (mixture p d t).
Proof.
move=> [p0 p1] [d0 d1] t01; split=> [y|].
  by apply: Rplus_le_le_0_compat; apply: Rmult_le_pos; lra || auto.
by rewrite /mixture -sum_plus -!sum_scal p1 d1; ring.
Qed.

Theorem reward_mixture p d r t : E (mixture p d t) r = (1 - t) * E p r + t * E d r.
Proof. by rewrite /E !collect; apply: sum_ext => y; rewrite /mixture; ring. Qed.

(** KL to one end of a mixture is at most its share of the whole. *)
Lemma KL_mixture p d u : law p -> law d -> d ≪ p -> 0 <= u < 1 -> KL (mixture p d u) p <= u * KL d p.
Proof.
move=> lp ld dp u01; have lm : law (mixture p d u) by apply: mixture_law => //; lra.
have pos y : 0 < p y -> 0 < mixture p d u y.
  move=> py; have := Rmult_lt_0_compat (1 - u) (p y) ltac:(lra) py.
  by have := Rmult_le_pos u (d y) (proj1 u01) (proj1 ld y); rewrite /mixture; lra.
have pm : p ≪ mixture p d u.
  by move=> y e; case: (law_case y lp) => // /pos; rewrite e; lra.
have k1 := Rmult_le_pos _ _ (proj1 u01) (KL_ge0 ld lm (dominated_trans dp pm)).
have k2 := Rmult_le_pos (1 - u) _ ltac:(lra) (KL_ge0 lp lm pm).
suff: u * KL d p = KL (mixture p d u) p + u * KL d (mixture p d u)
  + (1 - u) * KL p (mixture p d u) by lra.
rewrite /KL !collect; apply: sum_ext => y; case: (law_case y lp) => [py|py].
  by rewrite /mixture py (dp y py); ring.
have my := pos y py; rewrite (ln_quotient my py) (ln_quotient py my).
have mE : mixture p d u y = (1 - u) * p y + u * d y by [].
case: (law_case y ld) => [dy|dy].
  by set l := ln (mixture p d u y); rewrite mE dy; ring.
by rewrite (ln_quotient dy py) (ln_quotient dy my); set l := ln (mixture p d u y); rewrite mE; ring.
Qed.

(** On the mixture path from the tilt to d, J_b falls strictly unless d is the tilt. *)
Theorem regularised_reward_along_mixture d ref r beta t t' y : law d -> law ref -> d ≪ ref ->
  0 < beta ->
  0 <= t < t' -> t' <= 1 -> d y <> tilt ref r beta y ->
  Jb (mixture (tilt ref r beta) d t') ref r beta < Jb (mixture (tilt ref r beta) d t) ref r beta.
Proof.
move=> ld lr dr b0 [t0 tt] t1 neq; set p := tilt ref r beta in neq *.
have lp : law p by exact: gibbs_law.
have dp : d ≪ p by exact: dominated_gibbs.
have pr : p ≪ ref by exact: gibbs_dominated.
have lm s : 0 <= s <= 1 -> law (mixture p d s) by exact: mixture_law.
have mr s : mixture p d s ≪ ref by move=> z e; rewrite /mixture (pr z e) (dr z e); ring.
have mp s : mixture p d s ≪ p by move=> z e; rewrite /mixture e (dp z e); ring.
have l1 := lm t ltac:(lra); have l2 := lm t' ltac:(lra).
have g1 := regularised_reward_gap r l1 lr (mr t) b0.
have g2 := regularised_reward_gap r l2 lr (mr t') b0; rewrite -/p in g1 g2.
suff: beta * KL (mixture p d t) p < beta * KL (mixture p d t') p by lra.
apply: Rmult_lt_compat_l => //.
have k2 : 0 < KL (mixture p d t') p.
  apply: (@KL_gt0 _ _ _ y) => // e; apply: neq; apply: (Rmult_eq_reg_l t'); last by lra.
  by move: e; rewrite /mixture; lra.
have u01 : 0 <= t / t' < 1.
  split; first by apply: Rle_mult_inv_pos; lra.
  by apply: (Rmult_lt_reg_r t'); [|rewrite /Rdiv Rmult_assoc Rinv_l]; lra.
have := KL_mixture lp l2 (mp t') u01.
rewrite (@KL_ext _ (mixture p (mixture p d t') (t / t')) (mixture p d t) p p) // => [le|z]; last first.
  by rewrite /mixture; field; lra.
by have := Rmult_lt_compat_r _ _ _ k2 (proj2 u01); lra.
Qed.

(** ** R8: approximate RL optimum *)
Theorem regularised_drop_between p1 p2 ref r beta : law p1 -> law p2 -> law ref ->
  p1 ≪ ref -> p2 ≪ ref -> 0 < beta ->
  Jb p1 ref r beta - Jb p2 ref r beta = beta * (KL p2 (tilt ref r beta) - KL p1 (tilt ref r beta)).
Proof.
move=> l1 l2 lr p1r p2r b0; have := regularised_reward_gap r l1 lr p1r b0.
by have := regularised_reward_gap r l2 lr p2r b0; lra.
Qed.

Theorem regularised_drop_between_iff p1 p2 ref r beta : law p1 -> law p2 -> law ref ->
  p1 ≪ ref -> p2 ≪ ref -> 0 < beta ->
  Jb p2 ref r beta < Jb p1 ref r beta <-> KL p1 (tilt ref r beta) < KL p2 (tilt ref r beta).
Proof.
move=> l1 l2 lr p1r p2r b0; have := regularised_drop_between r l1 l2 lr p1r p2r b0.
set k := KL p2 _ - _ => e; split=> h.
  by suff: 0 < k; [rewrite /k; lra | apply: (Rmult_lt_reg_l beta); lra].
by have := Rmult_lt_0_compat beta k b0 ltac:(rewrite /k; lra); lra.
Qed.

Theorem regularised_drop_suboptimal p1 p2 ref r beta delta : law p1 -> law p2 -> law ref ->
  p1 ≪ ref -> p2 ≪ ref -> 0 < beta -> Jb (tilt ref r beta) ref r beta - Jb p1 ref r beta <= delta ->
  beta * KL p2 (tilt ref r beta) - delta <= Jb p1 ref r beta - Jb p2 ref r beta.
Proof.
move=> l1 l2 lr p1r p2r b0 sub; have := regularised_reward_gap r l2 lr p2r b0; lra.
Qed.

End RlThenSft.

(** ** Worlds with two responses *)

Definition coin (a : R) (b : bool) : R := if b then a else 1 - a.

Lemma coin_law a : 0 <= a <= 1 -> @law bool_finType (coin a).
Proof. by move=> a01; split=> [[]|]; rewrite ?sum_bool /=; lra. Qed.

Lemma coin_full a : 0 < a < 1 -> forall b, 0 < coin a b.
Proof. by move=> a01 []; rewrite /=; lra. Qed.

Lemma E_coin a (f : bool -> R) : @E bool_finType (coin a) f = a * f true + (1 - a) * f false.
Proof. by rewrite /E sum_bool. Qed.

(** (i) A constant reward: p differs from the tilt and has the same reward. *)
Theorem constant_reward_no_drop : exists (ref p r : bool_finType -> R) (beta : R),
  law ref /\ law p /\ (forall y, 0 < ref y) /\ 0 < beta /\
  (exists y, p y <> tilt ref r beta y) /\ E p r = E (tilt ref r beta) r.
Proof.
have l1 : @law bool_finType (coin (1 / 2)) by apply: coin_law; lra.
have l2 : @law bool_finType (coin (3 / 4)) by apply: coin_law; lra.
exists (coin (1 / 2)), (coin (3 / 4)), (fun _ => 1), 1.
split; first exact: l1. split; first exact: l2.
split; first by apply: coin_full; lra. split; first exact: Rlt_0_1.
split; last by rewrite !E_const //; exact: gibbs_law.
exists true; have -> : tilt (coin (1 / 2) : bool_finType -> R) (fun _ => 1) 1 true = coin (1 / 2) true.
  by move: true; apply/gibbs_id_iff.
by rewrite /coin; lra.
Qed.

(** (iii) The reward rises: p is farther from ref than from the tilt and from the tilt to ref. *)
Theorem reward_can_rise : exists (ref p r : bool_finType -> R) (beta : R),
  law ref /\ law p /\ (forall y, 0 < ref y) /\ 0 < beta /\
  KL p (tilt ref r beta) + KL (tilt ref r beta) ref < KL p ref /\ E (tilt ref r beta) r < E p r.
Proof.
set ref : bool_finType -> R := coin (1 / 2); set p : bool_finType -> R := coin (9 / 10).
set r : bool_finType -> R := fun b => if b then 1 else 0.
have lr : law ref by apply: coin_law; lra.
have lp : law p by apply: coin_law; lra.
have pr : p ≪ ref by apply: full_dominates; apply: coin_full; lra.
have rise : E (tilt ref r 1) r < E p r.
  rewrite /tilt E_gibbs // /p /ref !E_coin.
  change (r true) with 1; change (r false) with 0.
  have -> : 1 / 1 = 1 by field.
  have -> : 0 / 1 = 0 by field.
  rewrite exp_0; have := exp_le_3; have := exp_pos 1; set e := exp 1 => e0 e3.
  apply: (Rmult_lt_reg_r (1 / 2 * e + (1 - 1 / 2) * 1)); first by lra.
  by rewrite /Rdiv Rmult_assoc Rinv_l; lra.
exists ref, p, r, 1; split; first exact: lr. split; first exact: lp.
split; first by apply: coin_full; lra. split; first exact: Rlt_0_1.
by split=> //; have := reward_drop r lp lr pr Rlt_0_1; lra.
Qed.
