(** * P5: the optimal duration of RL

    The slope of the utility U(s) = J(tilt_s) - lambda DeltaL(tilt_s), its maximiser, the time and the reward at
    its stationary points, and the maximiser of the surrogate. *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Foundations SftThenRl AsStated Verifiable.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

Section Duration.
Variable Y : finType.
Implicit Types (d r : Y -> R) (s lambda m M : R).

Theorem utility_slope d r s lambda : law d ->
  is_derive (fun s => E (tilt_at d r s) r - lambda * (CE d (tilt_at d r s) - CE d d)) s
            (Var (tilt_at d r s) r - lambda * (E (tilt_at d r s) r - E d r)).
Proof.
move=> ld; apply: (is_derive_minus (fun s => E (tilt_at d r s) r)
  (fun s => lambda * (CE d (tilt_at d r s) - CE d d))); first exact: reward_derivative.
apply: (is_derive_scal (fun s => CE d (tilt_at d r s) - CE d d)); exact: loss_derivative.
Qed.

(** A law that tilts d lives where d does. *)
Lemma E_tilt_at_le d r s (f g : Y -> R) : law d -> (forall y, 0 < d y -> f y <= g y) ->
  E (tilt_at d r s) f <= E (tilt_at d r s) g.
Proof.
move=> ld fg; have [p0 _] := gibbs_law (fun y => s * r y) ld; apply: sum_le => y.
case: (law_case y ld) => dy; last by exact: Rmult_le_compat_l (p0 y) (fg y dy).
have z : tilt_at d r s y = 0 := gibbs_dominated (fun y => s * r y) dy.
by rewrite z !Rmult_0_l; lra.
Qed.

(** Bhatia-Davis: the variance is at most (M - mean)(mean - m). *)
Lemma variance_between d r s m M : law d -> (forall y, 0 < d y -> m <= r y <= M) ->
  let J := E (tilt_at d r s) r in Var (tilt_at d r s) r <= (M - J) * (J - m).
Proof.
move=> ld mM J; have lp : law (tilt_at d r s) by exact: gibbs_law.
have -> : (M - J) * (J - m) =
    E (tilt_at d r s) (fun y => (M - J) * (J - m) + (M + m - 2 * J) * (r y - J)).
  by rewrite E_plus E_const // E_scal E_minus E_const // -/J; ring.
apply: E_tilt_at_le => // y /mM mMy; rewrite -/J.
by have := Rmult_le_pos (M - r y) (r y - m) ltac:(lra) ltac:(lra); lra.
Qed.

Theorem stationary_reward d r s lambda m M : law d -> (forall y, 0 < d y -> m <= r y <= M) ->
  Var (tilt_at d r s) r - lambda * (E (tilt_at d r s) r - E d r) = 0 ->
  lambda * (E (tilt_at d r s) r - E d r) <=
    (M - E (tilt_at d r s) r) * (E (tilt_at d r s) r - m).
Proof. by move=> ld mM e; have := variance_between s ld mM; cbv zeta; lra. Qed.

(** ** The bounds on the time of a stationary point *)

(** The variance moves by the third cumulant, which is at most w Var, w = M - m. *)
Lemma variance_derivative d r s : law d ->
  is_derive (fun s => Var (tilt_at d r s) r) s
            (E (tilt_at d r s) (fun y => (r y - E (tilt_at d r s) r) ^ 3)).
Proof.
move=> ld; have lp u : law (tilt_at d r u) by exact: gibbs_law.
set J := fun u => E (tilt_at d r u) r; set S := fun u => E (tilt_at d r u) (fun y => r y ^ 2).
apply: (is_derive_ext (fun u => S u - J u ^ 2)) => [u|]; first by rewrite Var_moments.
have dJ : is_derive J s (Var (tilt_at d r s) r) by exact: reward_derivative.
have dS := gold_derivative r (fun y => r y ^ 2) s ld; rewrite -/S -/(J s) -/(S s) in dS.
rewrite -/(J s); set C := E _ _ in dS; set V := Var _ _ in dJ.
have -> : E (tilt_at d r s) (fun y => (r y - J s) ^ 3) = C - 2 * J s * V.
  rewrite /C /V /Var -/(J s) -E_scal -E_minus.
  rewrite (@E_ext _ _ (fun y => _ - _) (fun y => (r y - J s) ^ 3 + (J s ^ 2 - S s) * (r y - J s))) => [|y];
    last by ring.
  by rewrite E_plus E_scal E_minus E_const // -/(J s); ring.
auto_derive; first by split; [exists C | split; [exists V|]].
by rewrite (is_derive_unique _ _ _ dS) (is_derive_unique _ _ _ dJ); ring.
Qed.

Lemma third_cumulant_le d r s m M : law d -> (forall y, 0 < d y -> m <= r y <= M) ->
  Rabs (E (tilt_at d r s) (fun y => (r y - E (tilt_at d r s) r) ^ 3)) <= (M - m) * Var (tilt_at d r s) r.
Proof.
move=> ld mM; set J := E (tilt_at d r s) r; have lp : law (tilt_at d r s) by exact: gibbs_law.
have [mJ JM] : m <= J <= M.
  rewrite -[X in X <= _ <= _](E_const m lp) -[X in _ <= _ <= X](E_const M lp).
  by split; apply: E_tilt_at_le => // y /mM; lra.
have side (k : R) : (forall y, 0 < d y -> k * (r y - J) <= M - m) ->
    k * E (tilt_at d r s) (fun y => (r y - J) ^ 3) <= (M - m) * Var (tilt_at d r s) r.
  move=> le; rewrite /Var -/J -!E_scal; apply: E_tilt_at_le => // y dy.
  by have := Rmult_le_compat_r _ _ _ (pow2_ge_0 (r y - J)) (le y dy); lra.
by apply: Rabs_le; have := side 1; have := side (-1); move=> h1 h2; split;
  [have := h1 ltac:(move=> y /mM; lra) | have := h2 ltac:(move=> y /mM; lra)]; lra.
Qed.

(** For 0 <= u <= s the variance at u is Var_s e^{w(s-u)} at most and Var_s e^{-w(s-u)} at least. *)
Lemma variance_between_times d r m M s u : law d -> (forall y, 0 < d y -> m <= r y <= M) -> u <= s ->
  let w := M - m in let V := fun u => Var (tilt_at d r u) r in
  V s * exp (- (w * (s - u))) <= V u <= V s * exp (w * (s - u)).
Proof.
move=> ld mM us w V; pose V' x := E (tilt_at d r x) (fun y => (r y - E (tilt_at d r x) r) ^ 3).
have dV x : is_derive V x (V' x) by exact: variance_derivative.
have bound x : Rabs (V' x) <= w * V x by exact: third_cumulant_le.
have grow (k : R) : k * k = 1 -> (forall x, 0 <= k * V' x + w * V x) ->
    k * V u <= k * V s * exp (k * (w * (s - u))).
  move=> kk pos; pose f x := k * V x * exp (k * w * x).
  have : f u <= f s.
    apply: (@nondecreasing_between f (fun x => (k * V' x + w * V x) * exp (k * w * x))) => // x _; last first.
      by apply: Rmult_le_pos => //; apply/Rlt_le/exp_pos.
    rewrite /f; auto_derive; first by exists (V' x).
    by rewrite (is_derive_unique _ _ _ (dV x)) (_ : w * V x = k * k * (w * V x)); [|rewrite kk]; ring.
  rewrite /f => le; apply: (Rmult_le_reg_r (exp (k * w * u))); first exact: exp_pos.
  by rewrite [X in _ <= X]Rmult_assoc -exp_plus (_ : k * (w * (s - u)) + k * w * u = k * w * s); [|ring].
have B x := Rabs_le_between (V' x) (w * V x).
have := grow 1 ltac:(lra) ltac:(move=> x; have := proj1 (B x) (bound x); lra).
have := grow (-1) ltac:(lra) ltac:(move=> x; have := proj1 (B x) (bound x); lra).
by rewrite (Rmult_1_l (w * (s - u))) (_ : -1 * (w * (s - u)) = - (w * (s - u))); [lra | ring].
Qed.

Lemma gain_between d r m M s : law d -> (forall y, 0 < d y -> m <= r y <= M) -> 0 <= s ->
  let w := M - m in let V := Var (tilt_at d r s) r in
  let gain := E (tilt_at d r s) r - E d r in
  V * (1 - exp (- (w * s))) <= w * gain <= V * (exp (w * s) - 1).
Proof.
move=> ld mM s0 w V gain; pose J u := E (tilt_at d r u) r.
have gE : gain = J s - J 0 by rewrite /J E_tilt_at_0.
have between u : 0 <= u <= s -> V * exp (- (w * (s - u))) <= Var (tilt_at d r u) r <= V * exp (w * (s - u)).
  by move=> us; apply: variance_between_times => //; lra.
have dJ u := reward_derivative r u ld.
have R0 : 0 <= w by have [y /mM] := law_support ld; rewrite /w; lra.
have side (k : R) : k * k = 1 ->
    (forall u, 0 <= u <= s -> 0 <= k * (V * exp (k * (w * (s - u))) - Var (tilt_at d r u) r)) ->
    k * (w * gain) <= V * (exp (k * (w * s)) - 1).
  move=> kk pos; pose f u := - (k * (w * J u) + V * exp (k * (w * (s - u)))).
  have : f 0 <= f s.
    apply: (@nondecreasing_between f
      (fun u => w * (k * (V * exp (k * (w * (s - u))) - Var (tilt_at d r u) r)))) => // u us; last first.
      by apply: Rmult_le_pos => //; exact: pos.
    rewrite /f; auto_derive; first by eexists; exact: dJ.
    by rewrite (is_derive_unique _ _ _ (dJ u)) /Rminus; ring.
  rewrite /f (_ : k * (w * (s - s)) = 0); last by ring.
  by rewrite Rminus_0_r exp_0 gE; lra.
have := side 1 ltac:(lra) ltac:(move=> u /between; rewrite (Rmult_1_l (w * (s - u))); lra).
have := side (-1) ltac:(lra) ltac:(move=> u /between;
  rewrite (_ : -1 * (w * (s - u)) = - (w * (s - u))); [lra | ring]).
by rewrite (Rmult_1_l (w * s)) (_ : -1 * (w * s) = - (w * s)); [lra | ring].
Qed.

Theorem stationary_time d r s lambda m M : law d -> (forall y, 0 < d y -> m <= r y <= M) ->
  (exists y z, 0 < d y /\ 0 < d z /\ r y <> r z) -> 0 < s ->
  Var (tilt_at d r s) r - lambda * (E (tilt_at d r s) r - E d r) = 0 ->
  let w := M - m in
  w / (exp (w * s) - 1) <= lambda <= w / (1 - exp (- (w * s))) /\
  ln (1 + w / lambda) / w <= s /\
  (w < lambda -> s <= - ln (1 - w / lambda) / w /\ Rabs (s * lambda - 1) <= w / (lambda - w)).
Proof.
move=> ld mM nc s0 e w; have [y [z [dy [dz neq]]]] := nc.
have R0 : 0 < w.
  have := mM y dy; have := mM z dz; rewrite /w => hz hy.
  by case: (Rlt_le_dec m M) => //; [lra | move=> Mm; case: neq; lra].
have gain0 := reward_strictly_monotone ld s0 nc; rewrite E_tilt_at_0 // in gain0.
set gain := E (tilt_at d r s) r - E d r in e; have g0 : 0 < gain by rewrite /gain; lra.
have [lo hi] := gain_between ld mM (Rlt_le _ _ s0); rewrite -/w -/gain in lo hi.
rewrite (_ : Var _ _ = lambda * gain) in lo hi; last by lra.
have Rs := Rmult_lt_0_compat _ _ R0 s0.
have up : 1 < exp (w * s) by rewrite -exp_0; exact: exp_increasing.
have down : exp (- (w * s)) < 1 by rewrite -exp_0; apply: exp_increasing; lra.
have lo' : lambda * (1 - exp (- (w * s))) <= w by apply: (Rmult_le_reg_r gain) => //; lra.
have hi' : w <= lambda * (exp (w * s) - 1) by apply: (Rmult_le_reg_r gain) => //; lra.
have l0 : 0 < lambda.
  apply: Rnot_le_lt => neg; have := Rmult_le_compat_r (exp (w * s) - 1) _ _ ltac:(lra) neg; lra.
have li := Rinv_0_lt_compat _ l0.
have ratio : w / lambda * lambda = w by field; lra.
split; [split|split].
- apply: (Rmult_le_reg_r (exp (w * s) - 1)); first by lra.
  by rewrite (_ : w / _ * _ = w); [lra | field; lra].
- apply: (Rmult_le_reg_r (1 - exp (- (w * s)))); first by lra.
  by rewrite (_ : w / _ * _ = w); [lra | field; lra].
- apply: (Rmult_le_reg_r w) => //; rewrite (_ : ln _ / w * w = ln (1 + w / lambda)); last by field; lra.
  have r0 := Rdiv_lt_0_compat _ _ R0 l0.
  rewrite -[s * w]ln_exp (Rmult_comm s); apply: ln_le; first by lra.
  by apply: (Rmult_le_reg_r lambda) => //; lra.
move=> Rl; have below : w / lambda < 1 by apply: (Rmult_lt_reg_r lambda) => //; lra.
have le : 1 - w / lambda <= exp (- (w * s)) by apply: (Rmult_le_reg_r lambda) => //; lra.
split.
  apply: (Rmult_le_reg_r w) => //; rewrite (_ : - ln _ / w * w = - ln (1 - w / lambda)); last by field; lra.
  have := ln_le (1 - w / lambda) _ ltac:(lra) le; rewrite ln_exp; lra.
(* Both x/(e^x - 1) and x/(1 - e^{-x}) are within x = w s of one, and x <= e^x - 1 <= w/(lambda - w). *)
set x := w * s in lo' hi' up down Rs le *; have et := exp_tangent (- x); have et' := exp_tangent x.
have inv : exp (- x) * exp x = 1 by rewrite -exp_plus Rplus_opp_l exp_0.
have small : x <= w / (lambda - w).
  apply: (Rmult_le_reg_r (lambda - w)); first by lra.
  rewrite (_ : w / _ * _ = w); last by field; lra.
  have := Rmult_le_compat_r (lambda * exp x) _ _ ltac:(have := Rmult_lt_0_compat lambda (exp x); lra) le.
  rewrite (_ : (1 - w / lambda) * _ = (lambda - w) * exp x); last by field; lra.
  rewrite (_ : exp (- x) * _ = lambda * (exp (- x) * exp x)); last by ring.
  by rewrite inv; have := Rmult_le_compat_l (lambda - w) _ _ ltac:(lra) et'; lra.
have xE : w * (s * lambda) = lambda * x by rewrite /x; ring.
apply: (Rle_trans _ x) => //; apply: Rabs_le; split.
  have e0 := exp_pos x; have h := Rmult_le_compat_r _ _ _ (Rlt_le _ _ e0) et; rewrite inv in h.
  have h2 := Rmult_le_compat_l lambda (exp x - 1) (x * exp x) ltac:(lra) ltac:(lra).
  have h3 := Rmult_le_compat_r _ _ _ (Rlt_le _ _ (exp_pos (- x))) (Rle_trans _ _ _ hi' h2).
  rewrite (_ : lambda * (x * exp x) * exp (- x) = lambda * x * (exp (- x) * exp x)) in h3; last by ring.
  have h4 := Rmult_le_compat_l _ _ _ (Rlt_le _ _ R0) et.
  by apply: (Rmult_le_reg_l w) => //; rewrite inv in h3; lra.
have h := Rmult_le_compat_l _ _ _ (Rlt_le _ _ (exp_pos (- x))) et'; rewrite inv in h.
have h2 := Rmult_le_compat_l lambda x ((1 + x) * (1 - exp (- x))) ltac:(lra) ltac:(lra).
have h3 := Rmult_le_compat_l (1 + x) _ _ ltac:(lra) lo'.
by apply: (Rmult_le_reg_l w) => //; lra.
Qed.

(** ** The maximiser *)

Definition utility d r lambda s := E (tilt_at d r s) r - lambda * (CE d (tilt_at d r s) - CE d d).

Lemma variance_gt0 d r s : law d -> (exists y z, 0 < d y /\ 0 < d z /\ r y <> r z) ->
  0 < Var (tilt_at d r s) r.
Proof.
move=> ld [y [z [dy [dz neq]]]]; have lp : law (tilt_at d r s) by exact: gibbs_law.
case: (Var_ge0 r lp) => // e; case: neq.
have at_mean x : 0 < d x -> r x = E (tilt_at d r s) r.
  move=> dx; have px : 0 < tilt_at d r s x by exact: gibbs_gt0.
  have := sum_eq0 (fun v => Rmult_le_pos _ _ (proj1 lp v) (pow2_ge_0 (r v - E (tilt_at d r s) r))) (esym e) x.
  by case/Rmult_integral; [lra | rewrite /= Rmult_1_r => /Rmult_integral; lra].
by rewrite !at_mean.
Qed.

(** A maximiser over s >= 0 is not at 0, where the slope is Var_d(r), and so has slope 0. *)
Theorem maximiser_stationary d r lambda best : law d ->
  (exists y z, 0 < d y /\ 0 < d z /\ r y <> r z) -> 0 <= best ->
  (forall s, 0 <= s -> utility d r lambda s <= utility d r lambda best) ->
  0 < best /\ Var (tilt_at d r best) r - lambda * (E (tilt_at d r best) r - E d r) = 0.
Proof.
move=> ld nc b0 most; set slope := _ - _.
have D : is_derive (utility d r lambda) best slope by exact: utility_slope.
have up : slope <= 0.
  apply: Rnot_lt_le => pos; have [h [h0 more]] := uphill D pos Rlt_0_1.
  by have := most (best + h) ltac:(lra); lra.
case: b0 => [b0|e]; last first.
  have := variance_gt0 0 ld nc; move: up; rewrite /slope -e E_tilt_at_0 //; lra.
split=> //; apply: Rle_antisym => //; apply: Rnot_lt_le => neg.
have D' : is_derive (fun x => utility d r lambda (- x)) (- best) (- slope).
  rewrite (_ : - slope = scal (-1) slope); last by rewrite /scal /= /mult /=; ring.
  apply: (is_derive_comp (utility d r lambda) Ropp); first by rewrite Ropp_involutive.
  by auto_derive => //; ring.
have [h [h0 more]] := uphill D' ltac:(lra) b0.
by rewrite Ropp_involutive in more; have := most (- (- best + h)) ltac:(lra); lra.
Qed.

(** From the time 1 on DeltaL rises at least linearly and the reward is bounded, so the utility is largest on a
    compact interval. *)
Theorem maximiser_exists d r lambda : law d -> 0 < lambda ->
  (exists y z, 0 < d y /\ 0 < d z /\ r y <> r z) ->
  exists best, 0 < best /\ forall s, 0 <= s -> utility d r lambda s <= utility d r lambda best.
Proof.
move=> ld l0 nc; have gain := reward_strictly_monotone ld Rlt_0_1 nc; rewrite E_tilt_at_0 // in gain.
set g := E (tilt_at d r 1) r - E d r; have g0 : 0 < g by rewrite /g; lra.
have lg := Rmult_lt_0_compat _ _ l0 g0.
have [y0 _] := law_support ld; have [top rtop] := exists_max r y0.
have below s : E (tilt_at d r s) r <= r top.
  have lp : law (tilt_at d r s) by exact: gibbs_law.
  by rewrite -[X in _ <= X](E_const (r top) lp); exact: E_le.
set S := 1 + (r top - E (tilt_at d r 1) r) / (lambda * g).
have S1 : 1 <= S.
  by have := Rle_mult_inv_pos _ _ (Rge_le _ _ (Rge_minus _ _ (Rle_ge _ _ (below 1)))) lg; rewrite /S /Rdiv; lra.
have far s : S <= s -> utility d r lambda s <= utility d r lambda 1.
  move=> Ss; have rise : CE d (tilt_at d r 1) - CE d d - g * 1 <= CE d (tilt_at d r s) - CE d d - g * s.
    apply: (@nondecreasing_between (fun u => CE d (tilt_at d r u) - CE d d - g * u)
      (fun u => E (tilt_at d r u) r - E d r - g)) => [u _|u u1|]; last by lra.
      apply: (is_derive_minus (fun u => CE d (tilt_at d r u) - CE d d) (fun u => g * u)).
        exact: loss_derivative.
      by auto_derive => //; ring.
    by have := reward_monotone r ld (proj1 u1); rewrite /g; lra.
  have room : r top - E (tilt_at d r 1) r <= lambda * g * (s - 1).
    rewrite (_ : r top - _ = lambda * g * (S - 1)); last by rewrite /S; field; lra.
    by apply: Rmult_le_compat_l; lra.
  have := Rmult_le_compat_l _ _ _ (Rlt_le _ _ l0) rise; rewrite /utility; have := below s; lra.
have [best [most [b0 bS]]] := continuity_ab_maj (utility d r lambda) 0 S ltac:(lra) ltac:(move=> u _;
  apply/continuity_pt_filterlim/ex_derive_continuous; eexists; exact: utility_slope).
have global s : 0 <= s -> utility d r lambda s <= utility d r lambda best.
  move=> s0; case: (Rle_lt_dec s S) => sS; first by apply: most.
  by apply: (Rle_trans _ _ _ (far s (Rlt_le _ _ sS))); apply: most; lra.
by exists best; split=> //; have [] := maximiser_stationary ld nc b0 global.
Qed.
End Duration.

(** The surrogate G(1 - e^{-aT}) - c T^2 is largest where a T e^{aT} = a^2 G/(2c), that is at W(...)/a. *)
Theorem surrogate_maximum a c G best T : 0 < a -> 0 < c -> 0 < best ->
  a * best * exp (a * best) = a ^ 2 * G / (2 * c) ->
  G * (1 - exp (- (a * T))) - c * T ^ 2 <= G * (1 - exp (- (a * best))) - c * best ^ 2.
Proof.
move=> a0 c0 b0 e; have GE : G = 2 * c * best * exp (a * best) / a.
  apply: (Rmult_eq_reg_l (a ^ 2 / (2 * c))); last first.
    by apply: Rgt_not_eq; apply: Rdiv_lt_0_compat; [apply: pow_lt | lra].
  rewrite (_ : a ^ 2 / (2 * c) * G = a ^ 2 * G / (2 * c)); last by field; lra.
  by rewrite -e; field; lra.
set u := a * (best - T).
have atT : G * exp (- (a * T)) = 2 * c * best / a * exp u.
  rewrite GE (_ : _ * exp (- (a * T)) = 2 * c * best / a * (exp (a * best) * exp (- (a * T)))); last by field; lra.
  by rewrite -exp_plus; congr (_ * exp _); rewrite /u; ring.
have atb : G * exp (- (a * best)) = 2 * c * best / a.
  rewrite GE (_ : _ * exp (- (a * best)) = 2 * c * best / a * (exp (a * best) * exp (- (a * best)))); last by field; lra.
  by rewrite -exp_plus Rplus_opp_r exp_0; ring.
have tangent := exp_tangent u.
have k0 : 0 < 2 * c * best / a by apply: Rdiv_lt_0_compat => //; apply: Rmult_lt_0_compat => //; lra.
have := Rmult_le_compat_l _ _ _ (Rlt_le _ _ k0) tangent.
have -> : 2 * c * best / a * (1 + u) = 2 * c * best / a + 2 * c * best * (best - T).
  by rewrite /u; field; lra.
have sq := Rmult_le_pos _ _ (Rlt_le _ _ c0) (pow2_ge_0 (best - T)).
nra.
Qed.
