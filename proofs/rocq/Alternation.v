(** * Alternating SFT and RL: where the two natural-gradient flows end together (T6) *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Foundations SftThenRl PriceOfReward Penalties.
From NonDecoupling Require Import Schedules.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

Section Alternation.
Variable Y : finType.
Implicit Types (p d r : Y -> R) (s eta lambda M K : R).

(** ** The natural-gradient flows p' = p (phi - E_p phi), phi the derivative of the objective in p *)

(** RL: phi = r. *)
Theorem rl_flow p r s y : law p ->
  is_derive (fun s => tilt_at p r s y) s (tilt_at p r s y * (r y - E (tilt_at p r s) r)).
Proof.
move=> lp; have z0 := E_exp_gt0 (fun z => s * r z) lp.
have dz := is_derive_partition p r s; set Z := fun s => E p (fun z => exp (s * r z)) in dz.
have exZ : ex_derive Z s by eexists; exact: dz.
change (is_derive (fun s => p y * exp (s * r y) / Z s) s (tilt_at p r s y * (r y - E (tilt_at p r s) r))).
have nz : Z s <> 0 by rewrite /Z; lra.
auto_derive; first by split.
by rewrite (is_derive_unique _ _ _ dz) E_tilt_at // /tilt_at /gibbs -/(Z s); field.
Qed.

(** SFT on the cross entropy, phi = d/p: a mixture with eta = 1 - e^{-t}. *)
Theorem sft_flow p d t y : law p -> (forall y, 0 < p y) -> law d -> (forall y, 0 < d y) -> 0 <= t ->
  let pt t y := exp (- t) * p y + (1 - exp (- t)) * d y in
  is_derive (fun t => pt t y) t (pt t y * (d y / pt t y - E (pt t) (fun z => d z / pt t z))).
Proof.
move=> lp p0 ld d0 t0 pt; have e0 := exp_pos (- t).
have e1 : exp (- t) <= 1.
  by rewrite -exp_0; case: t0 => [h|<-]; [apply/Rlt_le/exp_increasing | rewrite Ropp_0]; lra.
have pos z : 0 < pt t z.
  have := Rmult_lt_0_compat _ _ e0 (p0 z).
  by have := Rmult_le_pos (1 - exp (- t)) (d z) ltac:(lra) (Rlt_le _ _ (d0 z)); rewrite /pt; lra.
have -> : E (pt t) (fun z => d z / pt t z) = 1.
  by rewrite -(proj2 ld); apply: sum_ext => z; field; move: (pos z); lra.
have -> : pt t y * (d y / pt t y - 1) = - exp (- t) * p y + exp (- t) * d y.
  by rewrite (_ : pt t y * (d y / pt t y - 1) = d y - pt t y); [rewrite /pt; ring | field;
    move: (pos y); lra].
by rewrite /pt; auto_derive => //; ring.
Qed.

(** SFT on KL(p‖d), phi = - log(p/d): p^{1-eta} d^eta, normalised, as a reweighting of d. *)
Theorem reverse_sft_flow p d t y : law d -> (forall y, 0 < d y) ->
  let pt t := gibbs d (fun z => exp (- t) * ln (p z / d z)) in
  let u z := ln (pt t z / d z) in
  is_derive (fun t => pt t y) t (- (pt t y * (u y - E (pt t) u))).
Proof.
move=> ld d0 pt u; set f := fun z => ln (p z / d z).
have lt : law (pt t) by exact: gibbs_law.
have uE z : u z = exp (- t) * f z - ln (E d (fun w => exp (exp (- t) * f w))).
  have q0 : 0 < pt t z by exact: gibbs_gt0.
  by rewrite /u (ln_quotient q0 (d0 z)) ln_gibbs //; rewrite /f; ring.
have -> : - (pt t y * (u y - E (pt t) u)) = - exp (- t) * (pt t y * (f y - E (pt t) f)).
  by rewrite (E_ext _ uE) E_minus E_scal E_const // uE; ring.
have dt := @rl_flow d f (exp (- t)) y ld.
have de : is_derive (fun t => exp (- t)) t (- exp (- t)) by auto_derive => //; ring.
have := is_derive_comp (fun s => tilt_at d f s y) (fun t => exp (- t)) t _ _ dt de.
by rewrite /scal /= /mult /=.
Qed.

(** ** T6, logit form *)

(** One cycle: RL for time s, then SFT towards d by the natural gradient of KL(p‖d). *)
Definition logit_cycle d r s eta p y :=
  let w z := Rpower (tilt_at p r s z) (1 - eta) * Rpower (d z) eta in w y / sum w.

Lemma logit_cycle_law d r s eta p : law p -> (forall y, 0 < p y) ->
  law (logit_cycle d r s eta p) /\ (forall y, 0 < logit_cycle d r s eta p y).
Proof.
move=> lp p0; have [y0 _] := law_support lp.
set w := fun z => Rpower (tilt_at p r s z) (1 - eta) * Rpower (d z) eta.
have w0 y : 0 < w y by apply: Rmult_lt_0_compat; exact: exp_pos.
have W0 : 0 < sum w by apply: (sum_gt0 (y := y0)) => // z; exact/Rlt_le.
have c0 y : 0 < logit_cycle d r s eta p y by exact: (Rdiv_lt_0_compat _ _ (w0 y) W0).
split=> //; split=> [y|]; first exact/Rlt_le.
by rewrite /logit_cycle -sum_div -/w; field; lra.
Qed.

(** Log-odds after a cycle. *)
Lemma logit_cycle_odds d r s eta p y z : law p -> (forall y, 0 < p y) -> (forall y, 0 < d y) ->
  ln (logit_cycle d r s eta p y) - ln (logit_cycle d r s eta p z) =
  (1 - eta) * (ln (p y) - ln (p z) + s * (r y - r z)) + eta * (ln (d y) - ln (d z)).
Proof.
move=> lp p0 d0; set w := fun z => Rpower (tilt_at p r s z) (1 - eta) * Rpower (d z) eta.
have w0 x : 0 < w x by apply: Rmult_lt_0_compat; exact: exp_pos.
have W0 : 0 < sum w by apply: (sum_gt0 (y := y)) => // x; exact/Rlt_le.
rewrite /logit_cycle -/w (ln_quotient (w0 y) W0) (ln_quotient (w0 z) W0) /w.
by rewrite !ln_mult; try exact: exp_pos; rewrite /Rpower !ln_exp /tilt_at !ln_gibbs //; ring.
Qed.

(** The centred log-odds errors against tilt_{s(1-eta)/eta}(d) shrink by exactly 1 - eta a cycle. *)
Theorem logit_alternation d r s eta p n y z : law p -> (forall y, 0 < p y) -> law d ->
  (forall y, 0 < d y) -> 0 < eta ->
  let lim := tilt_at d r (s * (1 - eta) / eta) in
  let pn := iter n (logit_cycle d r s eta) p in
  ln (pn y / lim y) - ln (pn z / lim z) =
  (1 - eta) ^ n * (ln (p y / lim y) - ln (p z / lim z)).
Proof.
move=> lp p0 ld d0 e0 lim pn.
have l0 x : 0 < lim x by exact: gibbs_gt0.
have all m : law (iter m (logit_cycle d r s eta) p) /\ forall x, 0 < iter m (logit_cycle d r s eta) p x.
  by elim: m => [|m [IH1 IH2]] //=; exact: logit_cycle_law.
have lE x : ln (lim x) = ln (d x) + s * (1 - eta) / eta * r x -
  ln (E d (fun w => exp (s * (1 - eta) / eta * r w))) by rewrite /lim /tilt_at ln_gibbs.
rewrite /pn {pn}; elim: n => [|n IH] /=; first by rewrite Rmult_1_l.
have [ln_ pos] := all n; have [_ pos'] := all n.+1; rewrite /= in pos'.
rewrite Rmult_assoc -IH (ln_quotient (pos' y) (l0 y)) (ln_quotient (pos' z) (l0 z)).
rewrite (ln_quotient (pos y) (l0 y)) (ln_quotient (pos z) (l0 z)).
have := logit_cycle_odds r s eta y z ln_ pos d0; rewrite !lE => odds.
suff: ln (logit_cycle d r s eta (iter n (logit_cycle d r s eta) p) y) -
      ln (logit_cycle d r s eta (iter n (logit_cycle d r s eta) p) z) -
      (ln (d y) - ln (d z) + s * (1 - eta) / eta * (r y - r z)) =
  (1 - eta) * (ln (iter n (logit_cycle d r s eta) p y) - ln (iter n (logit_cycle d r s eta) p z)
    - (ln (d y) - ln (d z) + s * (1 - eta) / eta * (r y - r z))) by lra.
by rewrite odds; field; lra.
Qed.

(** So SFT ends at that tilt, which a cycle leaves in place, and RL ends at tilt_{s/eta}(d). *)
Theorem logit_alternation_limits d r s eta y : law d -> (forall y, 0 < d y) -> 0 < eta ->
  let lim := tilt_at d r (s * (1 - eta) / eta) in
  logit_cycle d r s eta lim y = lim y /\ tilt_at lim r s y = tilt_at d r (s / eta) y.
Proof.
move=> ld d0 e0 lim; split; last first.
  by rewrite /lim tilts_compose // /tilt_at; apply: gibbs_ext => // z; field; lra.
rewrite /logit_cycle /lim; set w := fun z => _.
apply: (normalised_weights (k := exp (- (1 - eta) * ln (E d (fun z => exp (s / eta * r z)))))) => //.
  exact: exp_pos.
move=> z; have tE : tilt_at (tilt_at d r (s * (1 - eta) / eta)) r s z = tilt_at d r (s / eta) z.
  by rewrite tilts_compose // /tilt_at; apply: gibbs_ext => // x; field; lra.
rewrite /w tE /Rpower /tilt_at ln_gibbs // -{3}(exp_ln (d z)) // -!exp_plus; congr exp; field; lra.
Qed.

(** ** T6, mixture form *)

(** One cycle: RL for time s, then SFT on the cross entropy. *)
Definition mixture_cycle d r s eta p y := (1 - eta) * tilt_at p r s y + eta * d y.

(** A law stays in place under a cycle iff it has this form with its own lambda = E_p e^{s r}. *)
Theorem mixture_fixed_point d r s eta p : law d -> (forall y, 0 < d y) -> law p -> 0 < eta < 1 ->
  let lambda := E p (fun z => exp (s * r z)) in
  (forall y, mixture_cycle d r s eta p y = p y) <->
  (forall y, (1 - eta) * exp (s * r y) < lambda) /\
  (forall y, p y = eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y))).
Proof.
move=> ld d0 lp e01 lambda; have l0 : 0 < lambda by exact: E_exp_gt0.
have cE y : mixture_cycle d r s eta p y = (1 - eta) * (p y * exp (s * r y) / lambda) + eta * d y by [].
split=> [fix_|[lt form] y].
  have key y : p y * (lambda - (1 - eta) * exp (s * r y)) = eta * d y * lambda.
    have := fix_ y; rewrite cE => e.
    rewrite -{1}e; apply: (Rmult_eq_reg_l (/ lambda)); last by apply/Rgt_not_eq/Rinv_0_lt_compat.
    have : (p y - ((1 - eta) * (p y * exp (s * r y) / lambda) + eta * d y)) = 0 by lra.
    move=> h; suff: p y * (1 - (1 - eta) * exp (s * r y) / lambda) = eta * d y.
      move=> h2; rewrite e; transitivity (p y * (1 - (1 - eta) * exp (s * r y) / lambda));
        first by field; lra.
      by rewrite h2; field; lra.
    by move: h; rewrite /Rdiv; lra.
  have lt y : (1 - eta) * exp (s * r y) < lambda.
    have ed : 0 < eta * d y * lambda by apply: Rmult_lt_0_compat => //; apply: Rmult_lt_0_compat;
      [lra | exact: d0].
    apply: Rnot_le_lt => le; rewrite -key in ed.
    by have := Rmult_le_pos (p y) ((1 - eta) * exp (s * r y) - lambda) (proj1 lp y) ltac:(lra); lra.
  by split=> // y; rewrite -key; field; move: (lt y); lra.
by rewrite cE [in RHS]form form; field; move: (lt y); lra.
Qed.

(** Such a lambda exists and is unique. *)
Theorem mixture_lambda_exists d r s eta : law d -> (forall y, 0 < d y) -> 0 < eta < 1 ->
  exists lambda, (forall y, (1 - eta) * exp (s * r y) < lambda) /\
    \sum_(y : Y) (eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y))) = 1.
Proof.
move=> ld d0 e01; have [y1 _] := law_support ld; have [y0 top] := exists_max (fun y => exp (s * r y)) y1.
set Mx := exp (s * r y0); have M0 : 0 < Mx := exp_pos _.
have eM := Rmult_lt_0_compat _ _ (proj1 e01) M0.
have d1 : d y0 <= 1 by rewrite -(proj2 ld); apply: term_le_sum => z; exact/Rlt_le.
have cap y : (1 - eta) * exp (s * r y) <= (1 - eta) * Mx by apply: Rmult_le_compat_l (top y); lra.
set f := fun lambda => \sum_(y : Y) (eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y))) - 1.
have cont x : (1 - eta) * Mx < x -> continuity_pt f x.
  move=> h; apply: continuity_pt_minus; last by apply: continuity_pt_const.
  apply: (continuity_sum (f := fun y x => eta * d y * x / (x - (1 - eta) * exp (s * r y)))) => y.
  change (continuity_pt (fun x => eta * d y * x / (x - (1 - eta) * exp (s * r y))) x).
  apply/continuity_pt_filterlim.
  apply: (ex_derive_continuous (fun x => eta * d y * x / (x - (1 - eta) * exp (s * r y)))).
  by auto_derive; move: (cap y); lra.
have edM := Rmult_lt_0_compat _ _ eM (d0 y0).
have edM' := Rmult_le_compat_l _ _ _ (Rlt_le _ _ eM) d1.
have lo : 0 <= f ((1 - eta) * Mx + eta * Mx * d y0).
  set x := _ + _; have x0 : 0 < x.
    by rewrite /x; have := Rmult_lt_0_compat (1 - eta) _ ltac:(lra) M0; lra.
  rewrite /f; suff: 1 <= \sum_(y : Y) (eta * d y * x / (x - (1 - eta) * exp (s * r y))) by lra.
  have low y : eta * d y + (if y == y0 then 1 - eta else 0) <=
               eta * d y * x / (x - (1 - eta) * exp (s * r y)).
    have den : 0 < x - (1 - eta) * exp (s * r y) by move: (cap y); rewrite /x; lra.
    case: (eqVneq y y0) => [e|_].
      apply: Req_le; rewrite e -/Mx /x; field; lra.
    rewrite Rplus_0_r; apply/(Rle_div_r _ _ _ den).
    apply: Rmult_le_compat_l; first by apply: Rmult_le_pos; [lra | exact/Rlt_le].
    by have := Rmult_lt_0_compat (1 - eta) _ ltac:(lra) (exp_pos (s * r y)); lra.
  by have := sum_le low; rewrite -sum_plus sum_single -sum_scal (proj2 ld); lra.
have hi : f Mx <= 0.
  rewrite /f; suff: \sum_(y : Y) (eta * d y * Mx / (Mx - (1 - eta) * exp (s * r y))) <= sum d.
    by rewrite (proj2 ld); lra.
  apply: sum_le => y; have den : 0 < Mx - (1 - eta) * exp (s * r y) by move: (cap y); lra.
  apply/(Rle_div_l _ _ _ den); rewrite (_ : eta * d y * Mx = d y * (eta * Mx)); last by ring.
  by apply: Rmult_le_compat_l; [exact/Rlt_le | move: (cap y); lra].
have cf x : (1 - eta) * Mx + eta * Mx * d y0 <= x <= Mx -> continuity_pt f x.
  by move=> hx; apply: cont; lra.
have [x [hx z]] := zero_between cf ltac:(lra) lo hi.
by exists x; split=> [y|]; [move: (cap y) | move: z; rewrite /f]; lra.
Qed.

Theorem mixture_lambda_unique d r s eta lambda (lambda' : R) : law d -> 0 < eta < 1 ->
  (forall y, (1 - eta) * exp (s * r y) < lambda) -> lambda < lambda' ->
  \sum_(y : Y) (eta * d y * lambda' / (lambda' - (1 - eta) * exp (s * r y))) <
  \sum_(y : Y) (eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y))).
Proof.
move=> ld e01 lt ll; set f := fun x y => eta * d y * x / (x - (1 - eta) * exp (s * r y)).
change (sum (f lambda') < sum (f lambda)).
suff: 0 < \sum_(y : Y) (f lambda y - f lambda' y) by have := sum_minus (f lambda) (f lambda'); lra.
have fE y : f lambda y - f lambda' y = eta * d y * ((lambda' - lambda) * ((1 - eta) * exp (s * r y)) /
    ((lambda - (1 - eta) * exp (s * r y)) * (lambda' - (1 - eta) * exp (s * r y)))).
  by rewrite /f; field; move: (lt y); lra.
have k0 y : 0 < (lambda' - lambda) * ((1 - eta) * exp (s * r y)) /
    ((lambda - (1 - eta) * exp (s * r y)) * (lambda' - (1 - eta) * exp (s * r y))).
  have e0 := exp_pos (s * r y); have t := lt y.
  apply: Rdiv_lt_0_compat; apply: Rmult_lt_0_compat; try lra.
  by apply: Rmult_lt_0_compat; lra.
have [y0 dy] := law_support ld.
apply: (sum_gt0 (y := y0)) => [y|]; rewrite fE.
  by apply: Rmult_le_pos; [apply: Rmult_le_pos; [lra | apply ld] | exact/Rlt_le].
by apply: Rmult_lt_0_compat => //; apply: Rmult_lt_0_compat; lra.
Qed.

(** The limit, for a lambda with sum 1. *)
Definition mixture_limit d r s eta lambda y :=
  eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y)).

Lemma mixture_limit_forward d r s eta lambda y : 0 < eta < 1 ->
  (forall y, (1 - eta) * exp (s * r y) < lambda) ->
  mixture_limit d r s eta lambda y =
  forward_optimum d (fun z => exp (s * r z)) (eta * lambda / (1 - eta)) (lambda / (1 - eta)) y.
Proof.
move=> e01 lt; rewrite /mixture_limit /forward_optimum; field; move: (lt y); split; try split; lra.
Qed.

(** It is a law with E_p e^{s r} = lambda, a cycle leaves it in place, it is the frontier policy of the
    reward e^{s r}, and after RL it is (eta/lambda) d/(e^{-s r} - (1 - eta)/lambda). *)
Theorem mixture_limit_facts d r s eta lambda : law d -> (forall y, 0 < d y) -> 0 < eta < 1 ->
  (forall y, (1 - eta) * exp (s * r y) < lambda) -> sum (mixture_limit d r s eta lambda) = 1 ->
  let p := mixture_limit d r s eta lambda in
  law p /\ E p (fun z => exp (s * r z)) = lambda /\
  (forall y, mixture_cycle d r s eta p y = p y) /\
  (forall y, tilt_at p r s y = eta / lambda * d y / (exp (- (s * r y)) - (1 - eta) / lambda)) /\
  (forall p', law p' -> d ≪ p' -> lambda <= E p' (fun z => exp (s * r z)) -> KL d p <= KL d p').
Proof.
move=> ld d0 e01 lt s1 p; have [y0 _] := law_support ld.
have l0 : 0 < lambda.
  by have := Rmult_lt_0_compat (1 - eta) _ ltac:(lra) (exp_pos (s * r y0)); move: (lt y0); lra.
set b := eta * lambda / (1 - eta); set mu := lambda / (1 - eta).
have b0 : 0 < b by apply: Rdiv_lt_0_compat; [apply: Rmult_lt_0_compat |]; lra.
have pE y : p y = forward_optimum d (fun z => exp (s * r z)) b mu y by exact: mixture_limit_forward.
have rm y : exp (s * r y) < mu.
  apply: (Rmult_lt_reg_l (1 - eta)); first by lra.
  by rewrite /mu (_ : (1 - eta) * (lambda / (1 - eta)) = lambda); [exact: lt | field; lra].
have s1' : sum (forward_optimum d (fun z => exp (s * r z)) b mu) = 1 by rewrite -s1; apply: sum_ext.
have [lo _] := forward_optimum_law d0 b0 rm s1'.
have lp : law p by split=> [y|//]; rewrite pE; apply lo.
have J : E p (fun z => exp (s * r z)) = lambda.
  rewrite (E_law_ext _ pE) forward_optimum_reward // /mu /b; field; lra.
split=> //; split=> //; split.
  by apply/(mixture_fixed_point r s ld d0 lp e01); rewrite J.
split=> [y|p' lp' dp' le].
  rewrite /tilt_at /gibbs J /p /mixture_limit exp_Ropp; have e0 := exp_pos (s * r y).
  have q0 : / exp (s * r y) - (1 - eta) / lambda =
            (lambda - (1 - eta) * exp (s * r y)) / (lambda * exp (s * r y)) by field; lra.
  by rewrite q0; field; move: (lt y); lra.
have [k _] := forward_optimum_on_frontier lp' ld dp' d0 b0 rm s1' ltac:(rewrite -(E_law_ext _ pE) J;
  exact: le).
by rewrite (KL_ext (fun y => erefl (d y)) pE).
Qed.

(** Rate: with v = p/limit, max v/min v - 1 shrinks by rho = (1 - eta) max e^{s r}/lambda a cycle. *)
Theorem mixture_rate d r s eta lambda p M K : law d -> (forall y, 0 < d y) -> 0 < eta < 1 ->
  (forall y, (1 - eta) * exp (s * r y) < lambda) -> sum (mixture_limit d r s eta lambda) = 1 ->
  (forall y, exp (s * r y) <= M) -> (1 - eta) * M < lambda -> law p -> (forall y, 0 < p y) ->
  let lim := mixture_limit d r s eta lambda in
  let next := mixture_cycle d r s eta p in
  (forall y z, p y / lim y <= (1 + K) * (p z / lim z)) ->
  forall y z, next y / lim y <= (1 + (1 - eta) * M / lambda * K) * (next z / lim z).
Proof.
move=> ld d0 e01 lt s1 eM M1 lp p0 lim next vK y z.
have [lo [J [_ _]]] := mixture_limit_facts ld d0 e01 lt s1; rewrite -/lim in lo J.
have l0 : 0 < lambda by have := Rmult_lt_0_compat (1 - eta) _ ltac:(lra) (exp_pos (s * r y));
  move: (lt y); lra.
have lim0 x : 0 < lim x.
  apply: Rdiv_lt_0_compat; last by move: (lt x); lra.
  by do 2 (apply: Rmult_lt_0_compat => //); lra.
set rho := (1 - eta) * M / lambda.
have rhoE : rho * lambda = (1 - eta) * M by rewrite /rho; field; lra.
have M0 : 0 < M by apply: Rlt_le_trans (eM y); exact: exp_pos.
have rho01 : 0 < rho < 1.
  split; first by apply: Rdiv_lt_0_compat => //; apply: Rmult_lt_0_compat; lra.
  by apply: (Rmult_lt_reg_r lambda) => //; lra.
pose v x := p x / lim x; pose c x := (1 - eta) * exp (s * r x) / lambda.
have c01 x : 0 < c x <= rho.
  split; first by apply: Rdiv_lt_0_compat => //; apply: Rmult_lt_0_compat; [lra | exact: exp_pos].
  apply: (Rmult_le_reg_r lambda) => //; rewrite rhoE (_ : c x * lambda = (1 - eta) * exp (s * r x)).
    by apply: Rmult_le_compat_l (eM x); lra.
  by rewrite /c; field; lra.
pose m := E p (fun x => exp (s * r x)) / lambda.
have m0 : 0 < m by apply: Rdiv_lt_0_compat => //; exact: E_exp_gt0.
have nE x : next x / lim x * m = m + c x * (v x - m).
  have E0 := E_exp_gt0 (fun x => s * r x) lp.
  rewrite /next /mixture_cycle /tilt_at /gibbs /v /c.
  have -> : d x = lim x * (lambda - (1 - eta) * exp (s * r x)) / (eta * lambda).
    by rewrite /lim /mixture_limit; field; move: (lt x); lra.
  by rewrite /m; field; move: (lim0 x); lra.
have mE : m = \sum_(x : Y) (lim x * exp (s * r x) / lambda * v x).
  by rewrite /m /E sum_div; apply: sum_ext => x; rewrite /v; field; move: (lim0 x); lra.
have one : \sum_(x : Y) (lim x * exp (s * r x) / lambda) = 1.
  by rewrite -sum_div -/(E lim (fun x => exp (s * r x))) J; field; lra.
have t0 x : 0 <= lim x * exp (s * r x) / lambda.
  by apply/Rlt_le/Rdiv_lt_0_compat => //; apply: Rmult_lt_0_compat => //; exact: exp_pos.
have [z0 low] := exists_max (fun x => - v x) y; set lo_ := v z0.
have v_lo x : lo_ <= v x by move: (low x); rewrite /lo_; lra.
have v_hi x : v x <= (1 + K) * lo_ by exact: vK.
have lo0 : 0 < lo_ by exact: Rdiv_lt_0_compat.
have K0 : 0 <= K by apply: (Rmult_le_reg_r lo_) => //; move: (v_hi z0); rewrite -/lo_; lra.
have m_lo : lo_ <= m.
  rewrite mE -(Rmult_1_l lo_) -one Rmult_comm sum_scal; apply: sum_le => x.
  by rewrite Rmult_comm; apply: Rmult_le_compat_l.
have m_hi : m <= (1 + K) * lo_.
  rewrite {1}mE -(Rmult_1_l ((1 + K) * lo_)) -{1}one Rmult_comm sum_scal; apply: sum_le => x.
  by rewrite (Rmult_comm _ (_ / _)); apply: Rmult_le_compat_l.
apply: (Rmult_le_reg_r m) => //; rewrite Rmult_assoc !nE.
have up : m + c y * (v y - m) <= m + rho * ((1 + K) * lo_ - m).
  have [cy0 cy] := c01 y.
  have := Rmult_le_compat_l (c y) _ _ ltac:(lra) (v_hi y).
  by have := Rmult_le_compat_r ((1 + K) * lo_ - m) _ _ ltac:(lra) cy; lra.
have dn : m - rho * (m - lo_) <= m + c z * (v z - m).
  have [cz0 cz] := c01 z.
  have := Rmult_le_compat_l (c z) _ _ ltac:(lra) (v_lo z).
  by have := Rmult_le_compat_r (m - lo_) _ _ ltac:(lra) cz; lra.
have rK : 0 <= rho * K by apply: Rmult_le_pos; lra.
have := Rmult_le_compat_l (1 + rho * K) _ _ ltac:(lra) dn.
have := Rmult_le_pos _ _ rK (Rmult_le_pos (1 - rho) (m - lo_) ltac:(lra) ltac:(lra)).
by lra.
Qed.

(** rho <= (1 - eta)/(1 - eta + eta d(argmax r)), with max e^{s r} = M and d(argmax) as a sum. *)
Theorem mixture_rate_bound d r s eta lambda M : law d -> (forall y, 0 < d y) -> 0 < eta < 1 ->
  (forall y, (1 - eta) * exp (s * r y) < lambda) -> sum (mixture_limit d r s eta lambda) = 1 ->
  (forall y, exp (s * r y) <= M) -> 0 < M -> (1 - eta) * M < lambda ->
  (1 - eta) * M / lambda <=
  (1 - eta) / (1 - eta + eta * \sum_(y : Y) if Req_EM_T (exp (s * r y)) M then d y else 0).
Proof.
move=> ld d0 e01 lt s1 eM M0 M1; have [lo [J _]] := mixture_limit_facts ld d0 e01 lt s1.
set D := \sum_(y : Y) _; set lim := mixture_limit d r s eta lambda in lo J.
have D0 : 0 <= D by apply: sum_ge0 => y; case: Req_EM_T => e /=; [exact/Rlt_le | lra].
have l0 : 0 < lambda by have := Rmult_lt_0_compat (1 - eta) _ ltac:(lra) M0; lra.
have le : eta * lambda * M / (lambda - (1 - eta) * M) * D <= lambda.
  rewrite -{3}J /D sum_scal; apply: sum_le => y; have e0 := exp_pos (s * r y).
  case: Req_EM_T => e /=; first by rewrite /lim /mixture_limit e; apply: Req_le; field; lra.
  by rewrite Rmult_0_r; apply: Rmult_le_pos; [apply lo | lra].
have key : eta * M * D <= lambda - (1 - eta) * M.
  apply: (Rmult_le_reg_l lambda) => //; apply: (Rmult_le_reg_r (/ (lambda - (1 - eta) * M))).
    by apply: Rinv_0_lt_compat; lra.
  rewrite (_ : lambda * (lambda - (1 - eta) * M) * _ = lambda); last by field; lra.
  by rewrite (_ : lambda * (eta * M * D) * _ = eta * lambda * M / (lambda - (1 - eta) * M) * D) //;
    field; lra.
have eD := Rmult_le_pos eta D ltac:(lra) D0.
apply: (Rmult_le_reg_r (lambda * (1 - eta + eta * D))).
  by apply: Rmult_lt_0_compat => //; lra.
rewrite (_ : (1 - eta) * M / lambda * _ = (1 - eta) * (M * (1 - eta + eta * D))); last by field; lra.
rewrite (_ : (1 - eta) / (1 - eta + eta * D) * _ = (1 - eta) * lambda); last by field; lra.
by apply: Rmult_le_compat_l; lra.
Qed.

Lemma mixture_cycle_full d r s eta p : law d -> (forall y, 0 < d y) -> 0 < eta < 1 -> law p ->
  (forall y, 0 < p y) -> law (mixture_cycle d r s eta p) /\ forall y, 0 < mixture_cycle d r s eta p y.
Proof.
move=> ld d0 e01 lp p0; have lt : law (tilt_at p r s) by exact: gibbs_law.
have pos y : 0 < mixture_cycle d r s eta p y.
  have t0 : 0 < tilt_at p r s y by exact: gibbs_gt0.
  by apply: Rplus_lt_0_compat; apply: Rmult_lt_0_compat => //; lra.
split=> //; split=> [y|]; first exact/Rlt_le.
by rewrite /mixture_cycle -sum_plus -!sum_scal (proj2 lt) (proj2 ld); ring.
Qed.

(** So from any start the cycles end at the limit, at rate rho. *)
Theorem mixture_converges d r s eta lambda p M K n : law d -> (forall y, 0 < d y) -> 0 < eta < 1 ->
  (forall y, (1 - eta) * exp (s * r y) < lambda) -> sum (mixture_limit d r s eta lambda) = 1 ->
  (forall y, exp (s * r y) <= M) -> (1 - eta) * M < lambda -> law p -> (forall y, 0 < p y) ->
  let lim := mixture_limit d r s eta lambda in
  let pn := iter n (mixture_cycle d r s eta) p in
  let bound := 1 + ((1 - eta) * M / lambda) ^ n * K in
  (forall y z, p y / lim y <= (1 + K) * (p z / lim z)) ->
  forall y, pn y <= bound * lim y /\ lim y <= bound * pn y.
Proof.
move=> ld d0 e01 lt s1 eM M1 lp p0 lim pn bound start.
have all m : law (iter m (mixture_cycle d r s eta) p) /\ forall y, 0 < iter m (mixture_cycle d r s eta) p y.
  by elim: m => [|m [IH1 IH2]] //=; exact: mixture_cycle_full.
have ratio m y z : iter m (mixture_cycle d r s eta) p y / lim y <=
    (1 + ((1 - eta) * M / lambda) ^ m * K) * (iter m (mixture_cycle d r s eta) p z / lim z).
  elim: m y z => [|m IH] y z; first by rewrite /= Rmult_1_l; exact: start.
  have [l1 p1] := all m; rewrite -tech_pow_Rmult Rmult_assoc.
  exact: (mixture_rate ld d0 e01 lt s1 eM M1 l1 p1 IH).
have [lo [J _]] := mixture_limit_facts ld d0 e01 lt s1; have [ln_ pn0] := all n.
move=> y; have l0 : 0 < lim y.
  have la : 0 < lambda by have := Rmult_lt_0_compat (1 - eta) _ ltac:(lra) (exp_pos (s * r y));
    move: (lt y); lra.
  apply: Rdiv_lt_0_compat; last by move: (lt y); lra.
  by do 2 (apply: Rmult_lt_0_compat => //); lra.
have lim0 z : 0 < lim z.
  have la : 0 < lambda by have := Rmult_lt_0_compat (1 - eta) _ ltac:(lra) (exp_pos (s * r y));
    move: (lt y); lra.
  apply: Rdiv_lt_0_compat; last by move: (lt z); lra.
  by do 2 (apply: Rmult_lt_0_compat => //); lra.
have v z : pn z / lim z * lim z = pn z by field; move: (lim0 z); lra.
split.
  have : \sum_(z : Y) (pn y / lim y * lim z) <= \sum_(z : Y) (bound * pn z).
    apply: sum_le => z; rewrite -(v z) -Rmult_assoc; apply: Rmult_le_compat_r (ratio n y z).
    exact/Rlt_le.
  rewrite -!sum_scal (proj2 lo) (proj2 ln_) !Rmult_1_r => h.
  by rewrite -(v y); apply: Rmult_le_compat_r h; exact/Rlt_le.
have : \sum_(z : Y) pn z <= \sum_(z : Y) (bound * (pn y / lim y) * lim z).
  apply: sum_le => z; rewrite -{1}(v z); apply: Rmult_le_compat_r (ratio n z y); exact/Rlt_le.
rewrite -sum_scal (proj2 lo) (proj2 ln_) Rmult_1_r => h.
have := Rmult_le_compat_r (lim y) _ _ (Rlt_le _ _ l0) h.
by rewrite Rmult_assoc v; lra.
Qed.

End Alternation.
