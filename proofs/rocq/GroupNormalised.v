(** * Group-normalised advantages (T4): the factor h_G, stationary policies, the critical beta *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Foundations SftThenRl Verifiable Overpayment.
From NonDecoupling Require Import PriceOfReward Penalties Groups.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

(** The success rate at log-odds x. *)
Definition sigmoid x := exp x / (1 + exp x).

Lemma sigmoid_01 x : 0 < sigmoid x < 1.
Proof.
have e := exp_pos x; split; first by apply: Rdiv_lt_0_compat; lra.
by apply/Rlt_div_l; lra.
Qed.

Lemma logit_sigmoid x : logit (sigmoid x) = x.
Proof.
have e := exp_pos x; rewrite /logit /sigmoid (_ : _ / (1 - _) = exp x) ?ln_exp //; field; lra.
Qed.

Lemma sigmoid_logit c : 0 < c < 1 -> sigmoid (logit c) = c.
Proof. by move=> c01; apply: logit_injective (logit_sigmoid _) => //; exact: sigmoid_01. Qed.

(** ** h_G(c) = E[sd_K]/(c(1-c)), population standard deviation, no epsilon *)
Section Factor.
Variable G : nat.
Hypothesis G2 : (1 < G)%nat.

(** m (1 - m) at m = k/G: the variance of a group with k successes, and its square root. *)
Definition group_variance (k : nat) := INR k / INR G * (1 - INR k / INR G).
Definition group_factor c := binomial G c (fun k => sqrt (group_variance k)) / (c * (1 - c)).

Lemma INR_G : 2 <= INR G.
Proof. by move/ltP/le_INR: G2 => /=; lra. Qed.

Lemma mean_group_variance c : binomial G c group_variance = (INR G - 1) / INR G * (c * (1 - c)).
Proof.
have g := INR_G; rewrite (binomial_ext _ _
  (f' := fun k => 0 + / INR G * INR k + - (/ INR G) ^ 2 * INR k ^ 2)).
  by rewrite binomial_quadratic; field; lra.
by move=> k; rewrite /group_variance; field; lra.
Qed.

Lemma group_variance_bounds k : (k <= G)%nat ->
  0 <= group_variance k <= 1 / 4 /\ (group_variance k = 0 \/ (INR G - 1) / INR G ^ 2 <= group_variance k).
Proof.
move=> kG; have g := INR_G; have k0 := pos_INR k; have kg := le_INR _ _ (leP kG).
set m := INR k / INR G; have mE : m * INR G = INR k by rewrite /m; field; lra.
have m01 : 0 <= m <= 1.
  by split; apply: (Rmult_le_reg_r (INR G)); lra.
have v : group_variance k = m * (1 - m) by [].
split; first by rewrite v; have := Rmult_le_pos m (1 - m) ltac:(lra) ltac:(lra);
  have := pow2_ge_0 (m - 1 / 2); lra.
case: k kG k0 kg m mE m01 v => [|k] kG k0 kg m mE m01 v.
  left; rewrite v (_ : m = 0); first by ring.
  by apply: (Rmult_eq_reg_r (INR G)); [rewrite mE /=; ring | lra].
case: (ltnP k.+1 G) => kG'; last first.
  left; have e : INR k.+1 = INR G by congr INR; apply/eqP; rewrite eqn_leq kG kG'.
  rewrite v (_ : m = 1); first by ring.
  by apply: (Rmult_eq_reg_r (INR G)); [rewrite mE e; ring | lra].
right; have k1 : 1 <= INR k.+1 by rewrite S_INR; move: (pos_INR k); lra.
have k2 : INR k.+1 + 1 <= INR G by rewrite -S_INR; apply: le_INR; apply/leP.
rewrite v; apply: (Rmult_le_reg_r (INR G ^ 2)); first by apply: pow_lt; lra.
rewrite (_ : (INR G - 1) / INR G ^ 2 * INR G ^ 2 = INR G - 1); last by field; lra.
rewrite (_ : m * (1 - m) * INR G ^ 2 = (m * INR G) * (INR G - m * INR G)); last by ring.
by rewrite mE; have := Rmult_le_pos (INR k.+1 - 1) (INR G - INR k.+1 - 1) ltac:(lra) ltac:(lra); lra.
Qed.

Theorem group_factor_bounds c : 0 < c < 1 ->
  2 * (INR G - 1) / INR G <= group_factor c /\
  group_factor c <= sqrt (INR G - 1) /\ group_factor c <= 1 / sqrt (c * (1 - c)).
Proof.
move=> c01; have g := INR_G; have cc : 0 < c * (1 - c) by apply: Rmult_lt_0_compat; lra.
have scale (x y : R) : x * (c * (1 - c)) <= y -> x <= y / (c * (1 - c)) by move/Rle_div_r; apply.
have scale' (x y : R) : y <= x * (c * (1 - c)) -> y / (c * (1 - c)) <= x by move/Rle_div_l; apply.
have mean := mean_group_variance c.
have lin x y : binomial G c (fun k => x * group_variance k + y) = x * binomial G c group_variance + y.
  have q : binomial G c (fun _ => 1) = 1.
    by rewrite (binomial_ext _ _ (f' := fun k => 1 + 0 * INR k + 0 * INR k ^ 2)) ?binomial_quadratic;
       [ring | move=> k; ring].
  transitivity (x * binomial G c group_variance + y * binomial G c (fun _ => 1)); last by rewrite q; ring.
  by rewrite /binomial !collect; apply: sum_ext => k; ring.
split; last split.
- apply: scale; rewrite (_ : _ * _ = 2 * binomial G c group_variance + 0); last by rewrite mean; field; lra.
  rewrite -lin; apply: binomial_le => [|k kG]; first by lra.
  have [[v0 v1] _] := group_variance_bounds kG; set v := group_variance k in v0 v1 *.
  have s0 := sqrt_pos v; have ss := sqrt_sqrt v v0.
  have sh : sqrt v <= 1 / 2.
    by rewrite (_ : 1 / 2 = sqrt (1 / 4)); [exact: sqrt_le_1_alt | rewrite (_ : 1 / 4 = (1 / 2) ^ 2);
      [rewrite sqrt_pow2; lra | lra]].
  by have := Rmult_le_pos (sqrt v) (1 - 2 * sqrt v) s0 ltac:(lra); lra.
- have s1 : 0 < sqrt (INR G - 1) by apply: sqrt_lt_R0; lra.
  have ss := sqrt_sqrt (INR G - 1) ltac:(lra).
  apply: scale'; rewrite (_ : _ * _ = INR G / sqrt (INR G - 1) * binomial G c group_variance + 0).
    rewrite -lin; apply: binomial_le => [|k kG]; first by lra.
    have [[v0 v1] v] := group_variance_bounds kG; set x := group_variance k in v0 v1 v *.
    case: v => [->|low]; first by rewrite sqrt_0; lra.
    have x0 : 0 < x by apply: Rlt_le_trans low; apply: Rdiv_lt_0_compat; [lra | apply: pow_lt; lra].
    have sx := sqrt_lt_R0 x x0; have xx := sqrt_sqrt x v0.
    have lo : sqrt (INR G - 1) / INR G <= sqrt x.
      rewrite (_ : sqrt (INR G - 1) / INR G = sqrt ((INR G - 1) / INR G ^ 2)); first exact: sqrt_le_1_alt.
      by rewrite sqrt_div_alt ?sqrt_pow2; [|lra|apply: pow_lt; lra].
    have k1 : 1 <= INR G / sqrt (INR G - 1) * sqrt x.
      apply: (Rmult_le_reg_l (sqrt (INR G - 1) / INR G)); first by apply: Rdiv_lt_0_compat; lra.
      by rewrite (_ : _ / INR G * (INR G / _ * sqrt x) = sqrt x); [lra | field; lra].
    have := Rmult_le_compat_l (sqrt x) _ _ (Rlt_le _ _ sx) k1.
    rewrite (_ : sqrt x * (INR G / _ * sqrt x) = INR G / sqrt (INR G - 1) * (sqrt x * sqrt x)); last by ring.
    by rewrite xx; lra.
  by set w := sqrt _ in s1 ss *; rewrite mean -ss; field; lra.
have s0 := sqrt_lt_R0 _ cc; have ss := sqrt_sqrt _ (Rlt_le _ _ cc); set s := sqrt (c * (1 - c)) in s0 ss *.
apply: scale'; rewrite -ss (_ : 1 / s * (s * s) = / (2 * s) * (s * s) + s / 2); last by field; lra.
apply: (Rle_trans _ (/ (2 * s) * binomial G c group_variance + s / 2)); last first.
  apply: Rplus_le_compat_r; apply: Rmult_le_compat_l; first by apply/Rlt_le/Rinv_0_lt_compat; lra.
  rewrite mean ss -[X in _ <= X]Rmult_1_l; apply: Rmult_le_compat_r; first by lra.
  by apply/Rle_div_l; lra.
rewrite -lin; apply: binomial_le => [|k kG]; first by lra.
have [[v0 _] _] := group_variance_bounds kG; set x := group_variance k in v0 *.
have xx := sqrt_sqrt x v0; apply: (Rmult_le_reg_l (2 * s)); first by lra.
rewrite (_ : 2 * s * (/ (2 * s) * x + s / 2) = x + s * s); last by field; lra.
by have := pow2_ge_0 (sqrt x - s); lra.
Qed.

(** The root of logit c = logit a + h_G(c)/beta: some success rate is stationary, and each lies within
    these bounds, so the failure rate is tiny at a usual beta. *)
Theorem group_stationary_exists a beta : 0 < a < 1 -> 0 < beta ->
  exists c, 0 < c < 1 /\ logit c = logit a + group_factor c / beta.
Proof.
move=> a01 b0; have g := INR_G; set L := logit a.
pose lo := L + 2 * (INR G - 1) / INR G / beta; pose hi := L + sqrt (INR G - 1) / beta.
pose f x := L + group_factor (sigmoid x) / beta - x.
have bounds x := group_factor_bounds (sigmoid_01 x).
have mono (u v : R) : u <= v -> u / beta <= v / beta.
  by move=> h; apply: Rmult_le_compat_r h; apply/Rlt_le/Rinv_0_lt_compat.
have flo : 0 <= f lo by have [/mono h _] := bounds lo; rewrite /f {2}/lo; lra.
have fhi : f hi <= 0 by have [_ [/mono h _]] := bounds hi; rewrite /f {2}/hi; lra.
have lohi : lo <= hi by have [/mono h1 [/mono h2 _]] := bounds 0; rewrite /lo /hi; lra.
have cont x : lo <= x <= hi -> continuity_pt f x.
  move=> _; have c01 := sigmoid_01 x; have e := exp_pos x.
  have cs : continuity_pt sigmoid x.
    apply/continuity_pt_filterlim; apply: (ex_derive_continuous sigmoid).
    by rewrite /sigmoid; auto_derive; lra.
  have cg : continuity_pt group_factor (sigmoid x).
    apply: continuity_pt_mult.
      apply: (continuity_sum (f := fun (k : ordinal_finType G.+1) c =>
        INR (binomial.binomial G k) * c ^ k * (1 - c) ^ (G - k)%nat * sqrt (group_variance k))) => k.
      set C := INR _; set v := sqrt _; set m := (G - k)%nat.
      apply/continuity_pt_filterlim.
      by apply: (ex_derive_continuous (fun c => C * c ^ k * (1 - c) ^ m * v)); auto_derive.
    apply/continuity_pt_filterlim; apply: (ex_derive_continuous (fun c => / (c * (1 - c)))).
    by auto_derive; apply: Rmult_integral_contrapositive_currified; lra.
  apply: continuity_pt_minus; last exact: derivable_continuous_pt (derivable_pt_id x).
  apply: continuity_pt_plus; first by apply: continuity_pt_const.
  apply: continuity_pt_mult; last by apply: continuity_pt_const.
  exact: (continuity_pt_comp sigmoid group_factor).
have [x [_ z]] := zero_between cont lohi flo fhi.
by exists (sigmoid x); split; [exact: sigmoid_01 | rewrite logit_sigmoid -/L; move: z; rewrite /f; lra].
Qed.

Theorem group_stationary_bounds a beta c : 0 < a < 1 -> 0 < beta -> 0 < c < 1 ->
  logit c = logit a + group_factor c / beta ->
  2 * (INR G - 1) / (INR G * beta) <= logit c - logit a <= sqrt (INR G - 1) / beta /\
  1 - c <= (1 - a) / a * exp (- (2 * (INR G - 1) / (INR G * beta))).
Proof.
move=> a01 b0 c01 e; have g := INR_G; have [lo [hi _]] := group_factor_bounds c01.
have ib := Rinv_0_lt_compat _ b0.
have lo' := Rmult_le_compat_r _ _ _ (Rlt_le _ _ ib) lo; have hi' := Rmult_le_compat_r _ _ _ (Rlt_le _ _
  ib) hi.
have lE : 2 * (INR G - 1) / (INR G * beta) = 2 * (INR G - 1) / INR G * / beta by field; lra.
have lower : 2 * (INR G - 1) / (INR G * beta) <= logit c - logit a by rewrite lE e /Rdiv;
  rewrite /Rdiv in lo'; lra.
split; first by split=> //; rewrite e /Rdiv; lra.
have odds u : 0 < u < 1 -> (1 - u) / u = exp (- logit u).
  by move=> u01; rewrite exp_Ropp /logit exp_ln; [field; lra | exact: logit_gt0].
apply: (Rle_trans _ ((1 - c) / c)).
  apply/Rle_div_r; first by lra.
  by have := Rmult_le_compat_l (1 - c) c 1 ltac:(lra) ltac:(lra); lra.
rewrite !odds // -exp_plus.
have : - logit c <= - logit a + - (2 * (INR G - 1) / (INR G * beta)) by lra.
by case=> [/exp_increasing|->]; lra.
Qed.

(** The forward leash, h_G(c) c (1-c) = beta (c - a): exactly one root above a. *)
Theorem group_forward_root a beta : 0 < a < 1 -> 0 < beta ->
  exists c, a < c < 1 /\ group_factor c * (c * (1 - c)) = beta * (c - a) /\
  forall c', a < c' < 1 -> group_factor c' * (c' * (1 - c')) = beta * (c' - a) -> c' = c.
Proof.
move=> a01 b0; pose sd k := sqrt (group_variance k); pose B c := binomial G c sd.
have g := INR_G; have [n nE] : exists n, G = n.+2 by exists (G - 2)%nat; rewrite -addn2 subnK.
have BE c : 0 < c < 1 -> group_factor c * (c * (1 - c)) = B c.
  by move=> c01; rewrite /group_factor -/(B c); field; lra.
have B0 : 0 < B a.
  rewrite -BE //; have [lo _] := group_factor_bounds a01.
  have : 0 < 2 * (INR G - 1) / INR G by apply: Rdiv_lt_0_compat; lra.
  by move=> h; apply: Rmult_lt_0_compat; [lra | apply: Rmult_lt_0_compat; lra].
have B1 : B 1 = 0.
  have : B 1 <= binomial G 1 (fun k => INR G - INR k).
    apply: binomial_le => [|k kG]; first by lra.
    have kg := le_INR _ _ (leP kG); have [[v0 v1] v] := group_variance_bounds kG; rewrite /sd.
    case: (leqP G k) => h.
      have e : k = G by apply/eqP; rewrite eqn_leq kG h.
      by rewrite /group_variance e (_ : _ * _ = 0) ?sqrt_0; [lra | field; lra].
    have := le_INR _ _ (leP h); rewrite S_INR => h1.
    have : sqrt (group_variance k) <= sqrt 1 by apply: sqrt_le_1_alt; lra.
    by rewrite sqrt_1; lra.
  have -> : binomial G 1 (fun k => INR G - INR k) = 0.
    by rewrite nE (binomial_ext _ _ (f' := fun k => (INR n.+2 - INR k) * 1)) ?binomial_times_rest =>
      [|k]; ring.
  move=> le; apply: Rle_antisym => //; apply: sum_ge0 => k; apply: Rmult_le_pos (sqrt_pos _).
  by repeat apply: Rmult_le_pos; [exact: pos_INR | apply: pow_le; lra | apply: pow_le; lra].
have cont x : continuity_pt (fun c => B c - beta * (c - a)) x.
  apply/continuity_pt_filterlim; apply: (ex_derive_continuous (fun c => B c - beta * (c - a))).
  have exB : ex_derive B x by rewrite /B nE; eexists; exact: binomial_derivative.
  by auto_derive.
have [c [hc z]] := zero_between (f := fun c => B c - beta * (c - a)) (a := a) (b := 1) (fun x _ => cont x)
  ltac:(lra) ltac:(cbv beta; lra) ltac:(cbv beta; have := Rmult_lt_0_compat beta (1 - a) b0 ltac:(lra); lra).
have ca : c <> a by move=> e; rewrite e in z; lra.
have c1 : c <> 1 by move=> e; rewrite e in z; have := Rmult_lt_0_compat beta (1 - a) b0 ltac:(lra); lra.
have conc k : (k.+2 <= n.+2)%nat -> sd k.+2 + sd k <= 2 * sd k.+1.
  rewrite -nE => kG; rewrite /sd; set x := group_variance k.+2; set y := group_variance k.
  have [[x0 _] _] := group_variance_bounds kG; have [[y0 _] _] := group_variance_bounds (leq_trans
    (leqnSn _) (leq_trans (leqnSn _) kG)).
  have [[w0 _] _] := group_variance_bounds (leq_trans (leqnSn _) kG); set w := group_variance k.+1 in w0 *.
  have le : x + y <= 2 * w.
    rewrite /x /y /w /group_variance !S_INR; set m := INR k / INR G; set e := / INR G.
    have e0 : 0 <= e by apply/Rlt_le/Rinv_0_lt_compat; lra.
    have e1 u : (u + 1) / INR G = u / INR G + e by rewrite /e; field; lra.
    by rewrite !e1 -/m; have := pow2_ge_0 e; lra.
  have sx := sqrt_sqrt x x0; have sy := sqrt_sqrt y y0; have sw := sqrt_sqrt w w0.
  have := pow2_ge_0 (sqrt x - sqrt y); have := sqrt_pos x; have := sqrt_pos y; have := sqrt_pos w.
  move=> w1 y1 x1 sq; apply: Rsqr_incr_0_var; last by lra.
  by rewrite /Rsqr; lra.
have uniq u v : a < u -> u < v -> v < 1 -> B u = beta * (u - a) -> B v = beta * (v - a) -> False.
  move=> au uv v1 eu ev.
  have ch := @binomial_chord n sd a v u ltac:(lra) ltac:(lra) conc.
  rewrite -nE -/(B a) -/(B u) -/(B v) eu ev in ch.
  by have := Rmult_lt_0_compat (v - u) _ ltac:(lra) B0; lra.
exists c; split; first by lra. split; first by rewrite BE; lra.
move=> c' hc' e'; rewrite BE in e'; last by lra.
case: (Rtotal_order c c') => [h|[//|h]].
  by case: (@uniq c c'); lra.
by case: (@uniq c' c); lra.
Qed.

End Factor.

(** ** Stationary policies with the reverse leash *)
Section Stationary.
Variable Y : finType.
Implicit Types (p ref r g : Y -> R) (beta h : R).

(** p is the tilt at beta/h iff h r - beta log(p/ref) is constant. *)
Lemma tilt_iff_constant p ref r beta h : law p -> law ref -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta -> 0 < h ->
  let phi y := h * r y - beta * ln (p y / ref y) in
  (forall y, p y = tilt ref r (beta / h) y) <-> (forall y z, phi y = phi z).
Proof.
move=> lp lr p0 r0 b0 h0 phi; have bh : 0 < beta / h by exact: Rdiv_lt_0_compat.
split=> [e y z|e y].
  have l w : ln (p w / ref w) = r w / (beta / h) - ln (E ref (fun z => exp (r z / (beta / h)))).
    by rewrite (ln_quotient (p0 w) (r0 w)) e /tilt ln_gibbs //; ring.
  by rewrite /phi !l; field; lra.
have f w : p w = gibbs ref (fun z => ln (p z / ref z)) w.
  have e1 z : ref z * exp (ln (p z / ref z)) = p z.
    by rewrite exp_ln; [field; move: (r0 z); lra | exact: Rdiv_lt_0_compat].
  rewrite /gibbs e1 (_ : E ref _ = 1); first by field.
  by rewrite -(proj2 lp); apply: sum_ext => z; rewrite e1.
rewrite f /tilt; move: y; apply/gibbs_eq_iff => // y z _ _.
have := e y z; rewrite /phi => e'; apply: (Rmult_eq_reg_l beta); last by lra.
have b w : beta * (r w / (beta / h)) = h * r w by field; lra.
by rewrite !Rmult_minus_distr_l !b; lra.
Qed.

(** h grad J = beta grad KL(p‖ref), in every direction g of the logits (F5, T1), iff p is the tilt at
    beta/h: for T4, r = 1_A and h = h_G(p(A)). *)
Theorem stationary_iff_tilt p ref r beta h : law p -> law ref -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta -> 0 < h ->
  (forall g, h * E p (fun y => r y * (g y - E p g)) =
             beta * E p (fun y => ln (p y / ref y) * (g y - E p g))) <->
  (forall y, p y = tilt ref r (beta / h) y).
Proof.
move=> lp lr p0 r0 b0 h0; pose phi y := h * r y - beta * ln (p y / ref y).
have phiE g : h * E p (fun y => r y * (g y - E p g)) - beta * E p (fun y => ln (p y / ref y) * (g y - E p g))
              = E p (fun y => phi y * (g y - E p g)).
  by rewrite -!E_scal -E_minus; apply: E_ext => y; rewrite /phi; ring.
have tE : (forall y, p y = tilt ref r (beta / h) y) <-> (forall y z, phi y = phi z).
  exact: tilt_iff_constant.
rewrite tE; split=> [st y z|same g].
  have v : E p (fun y => (phi y - E p phi) ^ 2) = 0.
    rewrite (@E_ext _ _ _ (fun y => phi y * (phi y - E p phi) - E p phi * (phi y - E p phi)));
      last by move=> w; ring.
    by rewrite E_minus E_scal E_minus E_const // -phiE; have := st phi; lra.
  have w0 w : phi w = E p phi.
    have := @sum_eq0 _ (fun y => p y * (phi y - E p phi) ^ 2) _ v w => /(_ _)/Rmult_integral.
    case=> [x|e|e]; first by apply: Rmult_le_pos; [exact/Rlt_le | exact: pow2_ge_0].
      by move: (p0 w); lra.
    by apply: Rminus_diag_uniq; apply: Rsqr_0_uniq; rewrite Rsqr_pow2.
  by rewrite !w0.
suff : E p (fun y => phi y * (g y - E p g)) = 0 by rewrite -phiE; lra.
have [y0 _] := law_support lp.
rewrite (@E_ext _ _ _ (fun y => phi y0 * (g y - E p g))) => [|y]; last by rewrite (same y y0).
by rewrite E_scal E_minus E_const //; ring.
Qed.

End Stationary.

(** ** Large groups, h = 1/sqrt(c(1-c)): the critical beta *)
Section Critical.
Variables (L : R).
Implicit Types (x beta : R).

(** In log-odds x, 1/sqrt(c(1-c)) = 2 cosh(x/2). *)
Lemma spread c : 0 < c < 1 -> 1 / sqrt (c * (1 - c)) = 2 * cosh (logit c / 2).
Proof.
move=> c01; have -> : c * (1 - c) = (/ (2 * cosh (logit c / 2))) ^ 2.
  rewrite -{1 2}(sigmoid_logit c01); set x := logit c.
  have -> : sigmoid x = exp (x / 2) * exp (x / 2) / (1 + exp (x / 2) * exp (x / 2)).
    by rewrite -exp_plus (_ : x / 2 + x / 2 = x) //; field.
  rewrite /cosh exp_Ropp; have e := exp_pos (x / 2); have e2 := Rmult_lt_0_compat _ _ e e.
  by field; lra.
have ch : 0 < 2 * cosh (logit c / 2) by rewrite /cosh; move: (exp_pos (logit c / 2)) (exp_pos (- (logit
  c / 2))); lra.
by rewrite sqrt_pow2; [field; lra | apply/Rlt_le/Rinv_0_lt_compat].
Qed.

(** cosh lies above its tangents, strictly. *)
Lemma cosh_tangent y y0 : y <> y0 -> cosh y0 + sinh y0 * (y - y0) < cosh y.
Proof.
move=> neq; have t z z0 : z <> z0 -> exp z0 * (1 + (z - z0)) < exp z.
  move=> n; have -> : exp z = exp z0 * exp (z - z0) by rewrite -exp_plus; congr exp; lra.
  by apply: Rmult_lt_compat_l; [exact: exp_pos | apply: exp_ineq1; lra].
have := t y y0 neq; have := t (- y) (- y0) ltac:(lra).
by rewrite /cosh /sinh; lra.
Qed.

(** Stationary log-odds: beta (x - L) = 2 cosh(x/2), L the log-odds of ref. *)
Definition stationary beta x := beta * (x - L) = 2 * cosh (x / 2).

Lemma cosh_gt0 x : 0 < cosh x.
Proof. by rewrite /cosh; move: (exp_pos x) (exp_pos (- x)); lra. Qed.

Lemma tanh_eq x y : x * tanh y = 2 -> x * sinh y = 2 * cosh y.
Proof. by rewrite /tanh => e; rewrite -e; field; move: (cosh_gt0 y); lra. Qed.

Lemma at_most_two beta x1 x2 x3 : x1 < x2 -> x2 < x3 ->
  stationary beta x1 -> stationary beta x2 -> stationary beta x3 -> False.
Proof.
rewrite /stationary => l1 l2 s1 s2 s3.
have t1 := @cosh_tangent (x1 / 2) (x2 / 2) ltac:(lra).
have t3 := @cosh_tangent (x3 / 2) (x2 / 2) ltac:(lra).
have d1 : (beta - sinh (x2 / 2)) * (x1 - x2) > 0 by lra.
have d3 : (beta - sinh (x2 / 2)) * (x3 - x2) > 0 by lra.
case: (Rle_lt_dec 0 (beta - sinh (x2 / 2))) => h.
  by have := Rmult_le_pos _ (x2 - x1) h ltac:(lra); lra.
by have := Rmult_lt_0_compat (- (beta - sinh (x2 / 2))) (x3 - x2) ltac:(lra) ltac:(lra); lra.
Qed.

(** The critical point: (x0 - L) tanh(x0/2) = 2 at a unique x0 > max(0, L), beta_c = sinh(x0/2). *)
Theorem critical_exists : exists x0, 0 < x0 /\ L < x0 /\ (x0 - L) * tanh (x0 / 2) = 2.
Proof.
pose f x := (x - L) * sinh (x / 2) - 2 * cosh (x / 2).
pose lo := Rmax 0 L; pose hi := lo + 6.
have lo0 : 0 <= lo by exact: Rmax_l. have loL : L <= lo by exact: Rmax_r.
have cont x : lo <= x <= hi -> continuity_pt (fun x => - f x) x.
  move=> _; apply/continuity_pt_filterlim.
  apply: (ex_derive_continuous (fun x => - f x)); rewrite /f /sinh /cosh; auto_derive; lra.
have flo : f lo <= 0.
  rewrite /f /lo /Rmax; case: Rle_dec => h.
    by rewrite Rminus_eq_0 Rmult_0_l; move: (cosh_gt0 (L / 2)); lra.
  rewrite (_ : 0 / 2 = 0) /sinh /cosh ?Ropp_0 ?exp_0; last by field.
  by rewrite Rminus_eq_0; lra.
have fhi : 0 <= f hi.
  have e1 : exp (- (hi / 2)) <= 1 / 4.
    rewrite exp_Ropp; have h3 : 3 <= hi / 2 by rewrite /hi; lra.
    have e4 : 4 <= exp (hi / 2) by have := exp_tangent (hi / 2); lra.
    by have := Rinv_le_contravar 4 _ ltac:(lra) e4; lra.
  rewrite /f /sinh /cosh; set u := exp (hi / 2); set v := exp (- (hi / 2)) in e1 *.
  have u4 : 4 <= u by have := exp_tangent (hi / 2); rewrite -/u /hi; lra.
  have v0 : 0 < v by exact: exp_pos.
  have g : 6 <= hi - L by rewrite /hi; lra.
  by have := Rmult_le_compat_r ((u - v) / 2) _ _ ltac:(lra) g; lra.
have lohi : lo <= hi by rewrite /hi; lra.
have nlo : 0 <= - f lo by lra. have nhi : - f hi <= 0 by lra.
have [x [hx z]] := zero_between cont lohi nlo nhi.
have fx : (x - L) * sinh (x / 2) = 2 * cosh (x / 2) by move: z; rewrite /f; lra.
have c0 := cosh_gt0 (x / 2).
have xL : L < x.
  case: (Rle_lt_dec x L) => // h; have e : x = L by lra.
  by rewrite e Rminus_eq_0 Rmult_0_l in fx; rewrite e in c0; lra.
have x0 : 0 < x.
  case: (Rle_lt_dec x 0) => // h; have e : x = 0 by lra.
  rewrite e (_ : 0 / 2 = 0) in fx; last by field.
  by move: fx; rewrite /sinh /cosh Ropp_0 exp_0; lra.
exists x; split=> //; split=> //; rewrite /tanh (_ : _ * _ = (x - L) * sinh (x / 2) / cosh (x / 2)).
  by rewrite fx; field; lra.
by field; lra.
Qed.

Theorem critical_beta x0 beta : 0 < x0 -> L < x0 -> (x0 - L) * tanh (x0 / 2) = 2 -> 0 < beta ->
  let beta_c := sinh (x0 / 2) in
  (beta < beta_c -> forall x, ~ stationary beta x) /\
  (beta = beta_c -> forall x, stationary beta x <-> x = x0) /\
  (beta_c < beta -> exists x1 x2, L < x1 < x0 /\ x0 < x2 /\
     forall x, stationary beta x <-> x = x1 \/ x = x2).
Proof.
move=> x00 L0 /tanh_eq crit b0 bc.
have line x : x <> x0 -> bc * (x - L) < 2 * cosh (x / 2).
  by move=> n; have := @cosh_tangent (x / 2) (x0 / 2) ltac:(lra); rewrite -/bc; move: crit; rewrite -/bc; lra.
have c0 x := cosh_gt0 (x / 2).
split.
  move=> lt x st; case: (Rle_lt_dec x L) => h.
    have := Rmult_le_pos beta (L - x) ltac:(lra) ltac:(lra); move: (c0 x) st; rewrite /stationary; lra.
  have := Rmult_lt_compat_r (x - L) _ _ ltac:(lra) lt; rewrite st.
  case: (Req_dec x x0) => [->|/line]; last by lra.
  by move: crit; rewrite -/bc; lra.
split.
  move=> -> x; split=> [st|->]; last by rewrite /stationary; move: crit; rewrite -/bc; lra.
  by apply: Classical_Prop.NNPP => /line; rewrite -st; lra.
move=> lt; pose f x := 2 * cosh (x / 2) - beta * (x - L).
have cont x : continuity_pt f x.
  apply/continuity_pt_filterlim; apply: (ex_derive_continuous f); rewrite /f /cosh; auto_derive; lra.
have f0 : f x0 < 0.
  by have := Rmult_lt_compat_r (x0 - L) _ _ ltac:(lra) lt; move: crit; rewrite /f -/bc; lra.
have fL : 0 < f L by rewrite /f Rminus_eq_0; move: (c0 L); lra.
pose X := x0 + 8 * beta + 2 * beta * Rabs L.
have aL := Rabs_pos L; have bL := Rmult_le_pos beta (Rabs L) ltac:(lra) aL.
have fX : 0 <= f X.
  have [t _] := exp_taylor2 (X / 2); have := t ltac:(rewrite /X; lra).
  have e0 := exp_pos (- (X / 2)).
  have q := Rmult_le_pos X (X - 8 * beta) ltac:(rewrite /X; lra) ltac:(rewrite /X; lra).
  have bl : - (beta * Rabs L) <= beta * L.
    have := Rmult_le_compat_l beta _ _ ltac:(lra) (Rle_abs (- L)); rewrite Rabs_Ropp; lra.
  rewrite /f /cosh => h; have : X / 2 >= beta * Rabs L by rewrite /X; lra.
  by rewrite (_ : (X / 2) ^ 2 / 2 = X * X / 8) in h; [lra | field].
have [x1 [h1 z1]] := zero_between (f := f) (a := L) (b := x0) (fun x _ => cont x) ltac:(lra) ltac:(lra)
  ltac:(lra).
have [x2 [h2 z2]] := zero_between (f := fun x => - f x) (a := x0) (b := X)
  (fun x _ => continuity_pt_opp _ _ (cont x)) ltac:(rewrite /X; lra) ltac:(cbv beta;
    lra) ltac:(cbv beta; lra).
have s1 : stationary beta x1 by move: z1; rewrite /f /stationary; lra.
have s2 : stationary beta x2 by move: z2; rewrite /f /stationary; lra.
have n1 : x1 <> x0 by move=> e; rewrite e in z1; lra.
have n1' : x1 <> L by move=> e; rewrite e in z1; lra.
have n2 : x2 <> x0 by move=> e; rewrite e in z2; lra.
exists x1, x2; split; first by lra. split; first by lra.
move=> x; split=> [st|[->|->] //].
case: (Rtotal_order x x1) => [h|[->|h]]; [|by left|].
  by case: (at_most_two h (_ : x1 < x2) st s1 s2); lra.
case: (Rtotal_order x x2) => [h'|[->|h']]; [|by right|].
  by case: (at_most_two h h' s1 st s2).
by case: (at_most_two (_ : x1 < x2) h' s1 s2 st); lra.
Qed.

End Critical.
