(** * Tilts compose (T5); verifier noise and entropy bonus are temperatures (T11); replay (T8); weighted
    SFT (T9) *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Foundations SftThenRl Landscape RlThenSft.
From NonDecoupling Require Import PriceOfReward Overpayment Verifiable Estimators Penalties.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

Section Tilts.
Variable Y : finType.
Implicit Types (p d ref r f g : Y -> R) (beta s t v : R).

(** ** T5 *)

Lemma gibbs_ext p p' f f' y : (forall z, p z = p' z) -> (forall z, f z = f' z) ->
  gibbs p f y = gibbs p' f' y.
Proof.
move=> ep ef; rewrite /gibbs ep ef; congr (_ / _).
by apply: sum_ext => z; rewrite ep ef.
Qed.

(** A nonnegative weight w proportional to ref e^f on the support, normalised, is the reweighted law. *)
Lemma normalised_weights ref f (w : Y -> R) k y : law ref -> 0 < k ->
  (forall z, w z = k * (ref z * exp (f z))) -> w y / sum w = gibbs ref f y.
Proof.
move=> lr k0 e; have -> : sum w = k * E ref (fun z => exp (f z)).
  by rewrite /E collect; apply: sum_ext.
by rewrite e /gibbs; field; split; [move: (E_exp_gt0 f lr) |]; lra.
Qed.

Theorem tilts_compose p r s t y : law p ->
  tilt_at (tilt_at p r t) r s y = tilt_at p r (s + t) y.
Proof. by move=> lp; rewrite /tilt_at gibbs_gibbs //; apply: gibbs_ext => // z; ring. Qed.

Theorem tilts_in_a_row ref r beta k y : law ref -> 0 < beta -> (0 < k)%nat ->
  iter k (fun p => tilt p r beta) ref y = tilt ref r (beta / INR k) y.
Proof.
move=> lr b0 k0; have step n z : iter n (fun p => tilt p r beta) ref z = tilt_at ref r (INR n / beta) z.
  elim: n z => [|n IH] z /=.
    by rewrite /tilt_at -[LHS]gibbs_zero //; apply: gibbs_ext => // w; rewrite /Rdiv !Rmult_0_l.
  have -> : tilt (iter n (fun p => tilt p r beta) ref) r beta z =
            gibbs (tilt_at ref r (INR n / beta)) (fun w => r w / beta) z by apply: gibbs_ext.
  rewrite /tilt_at gibbs_gibbs //; apply: gibbs_ext => // w.
  by rewrite -/(INR n.+1) S_INR; field; lra.
have kk : 0 < INR k by apply: lt_0_INR; apply/ltP.
by rewrite step /tilt_at /tilt; apply: gibbs_ext => // z; field; lra.
Qed.

(** The geometric mixture of ref and the tilt at beta is the tilt at beta/v. *)
Theorem geometric_mixture_is_tilt ref r beta v y : law ref -> (forall y, 0 < ref y) -> beta <> 0 ->
  v <> 0 ->
  let w z := Rpower (ref z) (1 - v) * Rpower (tilt ref r beta z) v in
  w y / sum w = tilt ref r (beta / v) y.
Proof.
move=> lr r0 b0 v0 w; apply: (normalised_weights (k := exp (- v * ln (Z ref r beta)))) => //.
  exact: exp_pos.
move=> z; rewrite /w /Rpower /tilt ln_gibbs // -/(Z ref r beta) -!exp_plus.
rewrite -{3}(exp_ln (ref z)) // -!exp_plus; congr exp; field; lra.
Qed.

(** Sampling sequences at temperature T: the tilt by log p at time 1/T - 1. *)
Theorem temperature_is_tilt p (T : R) y : law p -> (forall y, 0 < p y) ->
  let w z := Rpower (p z) (/ T) in w y / sum w = tilt_at p (fun z => ln (p z)) (/ T - 1) y.
Proof.
move=> lp p0 w; apply: (normalised_weights (k := 1)) => //; first by lra.
by move=> z; rewrite /w /Rpower Rmult_1_l -{2}(exp_ln (p z)) // -exp_plus; congr exp; ring.
Qed.

(** ** T11 *)

(** The reward that a noisy verifier pays on average, and its objective and optimum. *)
Theorem noisy_verifier ref r beta (f0 f1 : R) y : law ref -> 0 < beta -> f0 + f1 < 1 ->
  let seen z := r z * (1 - f1) + (1 - r z) * f0 in
  tilt ref seen beta y = tilt ref r (beta / (1 - f0 - f1)) y.
Proof.
move=> lr b0 f01 seen; rewrite /tilt; move: y; apply/gibbs_eq_iff => // y z _ _.
by rewrite /seen; field; lra.
Qed.

Theorem entropy_bonus p ref r beta (alpha : R) : law p -> law ref -> (forall y, 0 < ref y) ->
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
Theorem entropy_bonus_cost d r beta (alpha : R) : law d -> (forall y, 0 < d y) -> 0 < alpha + beta ->
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

(** ** T8 *)

Lemma exp_convex_strict w u : 0 < w < 1 -> u <> 0 -> exp (w * u) < 1 - w + w * exp u.
Proof.
move=> w01 u0; set c := w * u; have c0 : - c <> 0 by rewrite /c => h; apply: u0;
  apply: (Rmult_eq_reg_l w); lra.
have l0 : exp c * (1 - c) < 1.
  have := exp_ineq1 (- c) c0; move/(Rmult_lt_compat_l _ _ _ (exp_pos c)).
  by rewrite -exp_plus Rplus_opp_r exp_0; lra.
have l1 : exp c * (1 + (u - c)) <= exp u.
  have -> : exp u = exp c * exp (u - c) by rewrite -exp_plus; congr exp; lra.
  by apply: Rmult_le_compat_l (exp_tangent _); move: (exp_pos c); lra.
have := Rmult_lt_compat_l (1 - w) _ _ ltac:(lra) l0.
have := Rmult_le_compat_l w _ _ ltac:(lra) l1.
have -> : (1 - w) * (exp c * (1 - c)) = exp c - w * (exp c * (1 + (u - c))) by rewrite /c; ring.
by lra.
Qed.

Theorem replay_reward d p r v :
  E (mixture d p v) r - E d r = v * (E p r - E d r).
Proof. by rewrite reward_mixture; ring. Qed.

(** The middle bound at K, the weaker forms, and the case of equality. *)
Theorem replay_bound d p v : law d -> law p -> d ≪ p -> 0 <= v <= 1 ->
  let bound := - ln (1 - v + v * exp (- KL d p)) in
  KL d (mixture d p v) <= bound /\
  (v < 1 -> bound <= - ln (1 - v)) /\ bound <= v * KL d p /\
  (KL d (mixture d p v) = bound <->
   v = 0 \/ v = 1 \/ forall y z, 0 < d y -> 0 < d z -> p y / d y = p z / d z).
Proof.
move=> ld lp dp v01 bound; set K := KL d p in bound *.
have K0 : 0 <= K by exact: KL_ge0.
have eK := exp_pos (- K); set D := 1 - v + v * exp (- K).
have D0 : 0 < D.
  rewrite /D; case: (Req_dec v 0) => [->|v0]; first by lra.
  by have := Rmult_lt_0_compat v _ ltac:(lra) eK; lra.
set w := v * exp (- K) / D.
have wD : w * D = v * exp (- K) by rewrite /w; field; lra.
have w01 : 0 <= w <= 1.
  split; first by apply: Rle_mult_inv_pos D0; apply: Rmult_le_pos; lra.
  by apply: (Rmult_le_reg_r D) => //; rewrite wD /D; lra.
pose u y := ln (p y / d y) + K.
pose gap y := ln (1 - w + w * exp (u y)) - w * u y.
have pos y : 0 < 1 - w + w * exp (u y).
  have e0 := exp_pos (u y); case: (Req_dec w 0) => [->|w0]; first by lra.
  by have := Rmult_lt_0_compat w _ ltac:(lra) e0; lra.
have convex y : exp (w * u y) <= 1 - w + w * exp (u y).
  by have := exp_convex 0 (u y) w01; rewrite exp_0 Rmult_0_r Rplus_0_l; lra.
have gap0 y : 0 <= gap y.
  rewrite /gap; have := convex y; case=> [/(ln_increasing _ _ (exp_pos _))|<-]; rewrite ln_exp; lra.
have mean : E d u = 0.
  rewrite /u E_plus E_const // /K /KL /E collect -(sum_0 Y); apply: sum_ext => y.
  case: (law_case y ld) => [->|dy]; first by ring.
  have py := dominated_pos lp dp dy.
  by rewrite (ln_quotient py dy) (ln_quotient dy py); ring.
have id : bound - KL d (mixture d p v) = E d gap.
  have -> : E d gap = E d gap + w * E d u by rewrite mean; ring.
  rewrite -E_scal -E_plus /bound -/D -(E_const (- ln D) ld) /KL /E collect.
  apply: sum_ext => y; case: (law_case y ld) => [->|dy]; first by ring.
  have py := dominated_pos lp dp dy.
  have q0 : 0 < p y / d y by exact: Rdiv_lt_0_compat.
  have -> : gap y + w * u y = ln (1 - w + w * exp (u y)) by rewrite /gap; ring.
  have mE : mixture d p v y = d y * (D * (1 - w + w * exp (u y))).
    have -> : D * (1 - w + w * exp (u y)) = D - w * D + w * D * exp (u y) by ring.
    rewrite wD /u exp_plus exp_ln // {1}/D /mixture.
    rewrite (_ : v * exp (- K) * (p y / d y * exp K) = v * (p y / d y) * (exp (- K) * exp K)); last by ring.
    by rewrite -exp_plus Rplus_opp_l exp_0; field; lra.
  rewrite mE (_ : d y / (d y * (D * (1 - w + w * exp (u y)))) = / (D * (1 - w + w * exp (u y)))).
    by rewrite ln_Rinv ?ln_mult //; [ring | exact: Rmult_lt_0_compat].
  by field; move: (pos y); lra.
have E0 : 0 <= E d gap by exact: E_ge0.
have mono a b : 0 < a -> a <= b -> ln a <= ln b by move=> a0 [/(ln_increasing _ _ a0)|->]; lra.
split; first by lra. split.
  move=> v1; rewrite /bound -/D; have := mono (1 - v) D ltac:(lra); rewrite {1}/D.
  by move=> /(_ ltac:(have := Rmult_le_pos v _ (proj1 v01) (Rlt_le _ _ eK); lra)); lra.
split.
  have := exp_convex 0 (- K) v01; rewrite exp_0 Rmult_1_r Rmult_0_r Rplus_0_l -/D.
  by move/(mono _ _ (exp_pos _)); rewrite ln_exp /bound -/D; lra.
have -> : KL d (mixture d p v) = bound <-> E d gap = 0 by split; lra.
split=> [z|].
  case: (Req_dec v 0) => [|v0]; first by left.
  case: (Req_dec v 1) => [|v1]; [by right; left | right; right => y y' dy dy'].
  have wi : 0 < w < 1.
    split; first by apply: Rdiv_lt_0_compat => //; apply: Rmult_lt_0_compat; lra.
    by apply: (Rmult_lt_reg_r D) => //; rewrite wD /D; lra.
  have term x : 0 < d x -> p x / d x = exp (- K).
    move=> dx; have px := dominated_pos lp dp dx.
    have : d x * gap x = 0.
      by apply: (@sum_eq0 _ (fun x => d x * gap x)) => // x'; apply: Rmult_le_pos => //; apply ld.
    move=> /Rmult_integral [|g0]; first by lra.
    have ux : u x = 0.
      apply: Classical_Prop.NNPP => n; have := exp_convex_strict wi n.
      by move/(ln_increasing _ _ (exp_pos _)); rewrite ln_exp; move: g0; rewrite /gap; lra.
    by rewrite -(exp_ln (p x / d x)); [congr exp; move: ux; rewrite /u; lra | exact: Rdiv_lt_0_compat].
  by rewrite !term.
have zero : (forall y, 0 < d y -> gap y = 0) -> E d gap = 0.
  move=> g0; rewrite -(sum_0 Y); apply: sum_ext => y.
  by case: (law_case y ld) => [->|/g0 ->]; ring.
case=> [v0|[v1|same]].
- apply: zero => y _; rewrite /gap (_ : w = 0); last by rewrite /w v0; field; lra.
  by rewrite (_ : 1 - 0 + 0 * exp (u y) = 1) ?ln_1; ring.
- apply: zero => y _; rewrite /gap (_ : w = 1).
    by rewrite Rminus_eq_0 Rplus_0_l !Rmult_1_l ln_exp; ring.
  by apply: (Rmult_eq_reg_r D); [rewrite wD /D v1; ring | lra].
apply: zero => y dy; suff u0 : u y = 0.
  by rewrite /gap u0 exp_0 Rmult_0_r (_ : 1 - w + w * 1 = 1) ?ln_1; ring.
rewrite -mean -(E_const (u y) ld); apply: sum_ext => z.
by case: (law_case z ld) => [->|dz]; [ring | rewrite /u (same z y)].
Qed.

(** ** T9 *)

(** The loss -sum d stopgrad(p^a) log p and the objective -sum d p^a/a have the same gradient. *)
Theorem weighted_sft_gradient d theta g a : inhabited Y -> a <> 0 -> exists G,
  is_derive (fun eta => - \sum_(y : Y) (d y * Rpower (softmax theta y) a *
                            ln (softmax (fun z => theta z + eta * g z) y))) 0 G /\
  is_derive (fun eta => - \sum_(y : Y) (d y * Rpower (softmax (fun z => theta z + eta * g z) y) a / a))
            0 G.
Proof.
move=> inh a0; pose q eta := softmax (fun z => theta z + eta * g z).
pose D y := g y - E (softmax theta) g.
have dln y : is_derive (fun eta => ln (q eta y)) 0 (D y) by exact: score.
have q0 y : q 0 y = softmax theta y by exact: softmax_at_0.
exists (- \sum_(y : Y) (d y * Rpower (softmax theta y) a * D y)); split.
  apply: is_derive_opp; apply: (@is_derive_sum _ (fun y eta => d y * Rpower (softmax theta y) a * ln (q eta y))
    (fun y _ => d y * Rpower (softmax theta y) a * D y)) => y.
  by apply: is_derive_scal; exact: dln.
apply: is_derive_opp; apply: (@is_derive_sum _ (fun y eta => d y * Rpower (q eta y) a / a)
  (fun y _ => d y * Rpower (softmax theta y) a * D y)) => y.
have := dln y; rewrite /Rpower; set L := fun eta => ln (q eta y); move=> dL.
have exL : ex_derive L 0 by eexists; exact: dL.
change (is_derive (fun eta => d y * exp (a * L eta) / a) 0 (d y * exp (a * ln (softmax theta y)) * D y)).
auto_derive => //; rewrite (is_derive_unique _ _ _ dL) {1}/L q0; field; lra.
Qed.

(** e^{a x}/a lies below its tangent for a < 1. *)
Lemma power_tangent a x : a < 1 -> a <> 0 ->
  exp (a * x) / a - / a <= exp x - 1 /\ (exp (a * x) / a - / a = exp x - 1 -> x = 0).
Proof.
move=> a1 a0.
suff: x = 0 \/ exp (a * x) / a - / a < exp x - 1.
  case=> [->|lt]; last by split; lra.
  by rewrite Rmult_0_r exp_0; split=> //; apply: Req_le; field.
case: (Req_dec x 0) => x0; [by left | right].
case: (Rlt_le_dec 0 a) => sgn.
  have lt := exp_convex_strict (conj sgn a1) x0.
  have ia := Rinv_0_lt_compat _ sgn.
  have := Rmult_lt_compat_l _ _ _ ia lt.
  by rewrite (_ : / a * (1 - a + a * exp x) = / a - 1 + exp x); [rewrite /Rdiv; lra | field].
set w := - a / (1 - a).
have w01 : 0 < w < 1.
  split; first by apply: Rdiv_lt_0_compat; lra.
  by apply: (Rmult_lt_reg_r (1 - a)); [lra | rewrite /w /Rdiv Rmult_assoc Rinv_l; lra].
have nz : (1 - a) * x <> 0 by apply: Rmult_integral_contrapositive_currified; lra.
have := exp_convex_strict w01 nz.
rewrite (_ : w * ((1 - a) * x) = - (a * x)); last by rewrite /w; field; lra.
move/(Rmult_lt_compat_l _ _ _ (exp_pos (a * x))).
rewrite -exp_plus Rplus_opp_r exp_0 Rmult_plus_distr_l Rmult_comm.
have -> : exp (a * x) * (w * exp ((1 - a) * x)) = w * exp x.
  rewrite (Rmult_comm w) -Rmult_assoc -exp_plus (_ : a * x + (1 - a) * x = x); ring.
move=> lt; have := Rmult_lt_compat_l (1 - a) _ _ ltac:(lra) lt.
rewrite (_ : (1 - a) * ((1 - w) * exp (a * x) + w * exp x) = exp (a * x) - a * exp x); last first.
  by rewrite /w; field; lra.
move=> lt'; have ia : / a < 0 by apply: Rinv_lt_0_compat; lra.
have neg : 0 < - / a by lra.
have := Rmult_lt_compat_l _ _ _ neg lt'.
rewrite (_ : - / a * ((1 - a) * 1) = 1 - / a); last by field.
by rewrite (_ : - / a * (exp (a * x) - a * exp x) = exp x - exp (a * x) / a); [lra | field].
Qed.

(** T9. For a < 1, a != 0 the optimum is d^{1/(1-a)}, normalised: the tilt of d by log d. *)
Theorem weighted_sft_optimum d p a : law d -> law p -> (forall y, 0 < d y) -> (forall y, 0 < p y) ->
  a < 1 -> a <> 0 ->
  let w y := Rpower (d y) (/ (1 - a)) in
  let opt y := w y / sum w in
  let O p := - \sum_(y : Y) (d y * Rpower (p y) a / a) in
  (forall y, opt y = tilt_at d (fun y => ln (d y)) (a / (1 - a)) y) /\
  O opt <= O p /\ (O p = O opt -> forall y, p y = opt y) /\
  CE d opt - CE d d = ln (sum w) + a / (1 - a) * entropy d.
Proof.
move=> ld lp d0 p0 a1 a0 w opt O.
have wE y : w y = d y * exp (a / (1 - a) * ln (d y)).
  rewrite /w /Rpower -{2}(exp_ln (d y)) // -exp_plus; congr exp; field; lra.
have tE y : opt y = tilt_at d (fun y => ln (d y)) (a / (1 - a)) y.
  by apply: (normalised_weights (k := 1)) => //; [lra | move=> z; rewrite wE Rmult_1_l].
have NE : sum w = E d (fun y => exp (a / (1 - a) * ln (d y))) by apply: sum_ext.
have N0 : 0 < sum w by rewrite NE; exact: E_exp_gt0.
have o0 y : 0 < opt y by apply: Rdiv_lt_0_compat => //; exact: exp_pos.
have lo : law opt.
  have lt : law (tilt_at d (fun y => ln (d y)) (a / (1 - a))) by exact: gibbs_law.
  by split=> [y|]; [exact/Rlt_le | rewrite (sum_ext tE); apply lt].
split=> //.
have dE y : ln (d y) = (1 - a) * (ln (opt y) + ln (sum w)).
  by rewrite /opt ln_quotient //; [rewrite /w /Rpower ln_exp; field; lra | exact: exp_pos].
pose K := exp ((1 - a) * ln (sum w)); have K0 : 0 < K by exact: exp_pos.
have dK y : d y = K * (opt y * exp (- a * ln (opt y))).
  by rewrite -[LHS]exp_ln // dE /K -{2}(exp_ln (opt y)) // -!exp_plus; congr exp; ring.
have term (q : Y -> R) y : 0 < q y -> d y * Rpower (q y) a / a =
    K * (opt y * (exp (a * ln (q y / opt y)) / a)).
  move=> q0; rewrite {1}dK /Rpower (ln_quotient q0 (o0 y)).
  rewrite (_ : a * (ln (q y) - ln (opt y)) = - a * ln (opt y) + a * ln (q y)) ?exp_plus; last by ring.
  by rewrite /Rdiv; ring.
pose gap y := opt y * (exp (ln (p y / opt y)) - 1 - (exp (a * ln (p y / opt y)) / a - / a)).
have gap0 y : 0 <= gap y.
  by apply: Rmult_le_pos; [exact/Rlt_le | have [] := power_tangent (ln (p y / opt y)) a1 a0; lra].
have id : O p - O opt = K * sum gap.
  have z : \sum_(y : Y) (p y - opt y) = 0 by exact: sum_law_difference.
  rewrite -[LHS]Rplus_0_r -(Rmult_0_r K) -{1}z /O !collect; apply: sum_ext => y.
  rewrite (term p y (p0 y)) (term opt y (o0 y)) /gap exp_ln; last exact: Rdiv_lt_0_compat.
  rewrite (_ : opt y / opt y = 1) ?ln_1 ?Rmult_0_r ?exp_0; last by field; move: (o0 y); lra.
  by field; move: (o0 y); lra.
have g0 : 0 <= sum gap by exact: sum_ge0.
have Kg := Rmult_le_pos _ _ (Rlt_le _ _ K0) g0.
split; first by lra.
split=> [e y|].
  have sg : sum gap = 0 by apply: (Rmult_eq_reg_l K); lra.
  have /Rmult_integral [|h] := sum_eq0 gap0 sg y; first by move: (o0 y); lra.
  have [_ /(_ ltac:(lra)) x0] := power_tangent (ln (p y / opt y)) a1 a0.
  have : exp (ln (p y / opt y)) = 1 by rewrite x0 exp_0.
  rewrite exp_ln; last exact: Rdiv_lt_0_compat.
  by move=> e1; rewrite -(Rmult_1_l (opt y)) -e1; field; move: (o0 y); lra.
rewrite (CE_ext d tE) /tilt_at loss_change_gibbs // -NE E_scal /entropy /CE /E; ring.
Qed.

(** T9. SFT on data reweighted by f > 0 is SFT on the law d f/E_d f, so its optimum is that law. *)
Theorem reweighted_sft d f p : law d -> (forall y, 0 < f y) -> law p -> d ≪ p ->
  let opt y := d y * f y / E d f in
  let L p := - E d (fun y => f y * ln (p y)) in
  law opt /\ L opt <= L p /\ (L p = L opt <-> forall y, p y = opt y).
Proof.
move=> ld f0 lp dp opt L.
have F0 : 0 < E d f.
  by rewrite (@E_ext _ _ f (fun y => exp (ln (f y)))) => [|y]; [exact: E_exp_gt0 | rewrite exp_ln].
have lo : law opt.
  split=> [y|]; last by rewrite /opt -sum_div -/(E d f); field; lra.
  by apply: Rle_mult_inv_pos F0; apply: Rmult_le_pos; [apply ld | exact/Rlt_le].
have op : opt ≪ p by move=> y /dp e; rewrite /opt e /Rdiv; ring.
have LE q : L q = E d f * CE opt q.
  rewrite /L /CE Ropp_mult_distr_r_reverse; congr (- _); rewrite {1}/E collect; apply: sum_ext => y.
  by rewrite /opt; field; lra.
have [le iff] := CE_min lo lp op; rewrite /entropy in le iff.
split=> //; rewrite !LE; split; first by apply: Rmult_le_compat_l => //; lra.
rewrite -iff; split=> [e|->//]; by apply: (Rmult_eq_reg_l (E d f)) => //; lra.
Qed.

(** T9. With the weights beta/(mu - r) that law is the frontier policy of T2; with e^{r/beta}, the tilt. *)
Theorem frontier_weights d r beta mu y : law d -> 0 < beta -> (forall y, r y < mu) ->
  sum (forward_optimum d r beta mu) = 1 ->
  d y * (beta / (mu - r y)) / E d (fun z => beta / (mu - r z)) = forward_optimum d r beta mu y.
Proof.
move=> ld b0 rm s1; have -> : E d (fun z => beta / (mu - r z)) = 1.
  by rewrite -s1; apply: sum_ext => z; rewrite /forward_optimum; field; move: (rm z); lra.
by rewrite /forward_optimum; field; move: (rm y); lra.
Qed.

(** T9. Verifiable rewards: SFT on (1 - v) d + v d_A ends at a tilt. *)
Theorem filtered_sft_is_tilt (A : Y -> bool) d v y : law d -> 0 < success A d < 1 -> 0 < v < 1 ->
  let a := success A d in
  let c := (1 - v) * a + v in
  let beta := / (logit c - logit a) in
  0 < beta /\ (1 - v) * d y + v * (if A y then d y / a else 0) = tilt d (hit A) beta y.
Proof.
move=> ld a01 v01 a c beta; have [a' aE] : { a' | a' = a } by exists a.
have ac : a < c < 1.
  rewrite /c -aE; rewrite -/a -aE in a01; have p1 := Rmult_lt_0_compat v (1 - a') ltac:(lra) ltac:(lra).
  by have p2 := Rmult_lt_0_compat (1 - v) (1 - a') ltac:(lra) ltac:(lra); lra.
have [b0 sE] := beta_for_target ld (proj1 a01) ac; split=> //.
rewrite tilt_least_KL // sE /at_success -/a /c -aE; rewrite -/a -aE in a01.
by case: (A y); field; lra.
Qed.

End Tilts.
