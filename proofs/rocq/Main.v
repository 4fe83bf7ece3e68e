(** * The machine-checked theorems, on one page

    Every headline theorem, restated from primitives: the only notions used below are sums over a
    finite type, [exp], [ln], [sqrt], [Rabs], Coquelicot's [is_derive] (f has this derivative at x) and
    [is_RInt] (f has this integral), and the abbreviations of the next block, which unfold to them. No
    definition of the other files is needed to read the statements (but for the law of T tokens in F4);
    each is closed by [exact] from the file named, so a statement that drifts there breaks the build.

    A theorem's name begins with the id of the statement in the catalogue; the comment above it
    says which form is proved. Responses form a finite type [Y]; [p ≪ ref] says that p puts mass only
    where ref does (always so when ref has full support), which is what makes KL(p‖ref) finite. *)

From Coq Require Import Reals.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Sums Policies Foundations ChainRule Concentration SftThenRl PriceOfReward.
From NonDecoupling Require RlThenSft Landscape Decoupling Averages.

Set Implicit Arguments.
Unset Strict Implicit.
Local Open Scope R_scope.

(** ** Abbreviations *)

(** Sum over all responses (or prompts), expectation, variance. *)
Local Notation sum f := (\big[Rplus/0]_y f y).
Local Notation E p f := (sum (fun y => p y * f y)).
Local Notation Var p f := (E p (fun y => (f y - E p f) ^ 2)).
(** Probability law; absolute continuity. *)
Local Notation law p := ((forall y, 0 <= p y) /\ \big[Rplus/0]_y (p y)%R = 1).
Local Notation "p ≪ q" := (forall y, q y = 0 -> p y = 0) (at level 70).
(** KL divergence, SFT loss (cross entropy), total variation, in nats. *)
Local Notation KL p q := (sum (fun y => p y * ln (p y / q y))).
Local Notation CE d p := (- sum (fun y => d y * ln (p y))).
Local Notation TV p q := (sum (fun y => Rabs (p y - q y)) / 2).
(** Partition function, tilt (the exact RL optimum), tilt at time s = 1/beta. *)
Local Notation Z ref r beta := (E ref (fun y => exp (r y / beta))).
Local Notation tilt ref r beta := (fun y => ref y * exp (r y / beta) / Z ref r beta).
Local Notation tilt_at ref r s :=
  (fun y => ref y * exp (s * r y) / E ref (fun z => exp (s * r z))).
(** Regularised reward; softmax policy. *)
Local Notation J_b p ref r beta := (E p r - beta * KL p ref).
Local Notation softmax theta := (fun y => exp (theta y) / sum (fun z => exp (theta z))).

Section OnePrompt.
Variable Y : finType.
Implicit Types (p q d ref joint r theta g : Y -> R) (beta s t m M c l eps lambda mu eta : R).

(** ** Foundations *)

(** F1. Gibbs inequality: KL(p‖q) >= 0, with equality iff p = q. *)
Theorem F1_gibbs_inequality p q : law p -> law q -> p ≪ q ->
  0 <= KL p q /\ (KL p q = 0 <-> forall y, p y = q y).
Proof. exact (fun lp lq pq => conj (Foundations.KL_ge0 lp lq pq) (Foundations.KL_eq0 lp lq pq)). Qed.

(** F2. Decomposition: CE(d,p) = H(d) + KL(d‖p); CE(d,p) >= H(d), with equality at p = d only. *)
Theorem F2_decomposition d p : law d -> law p -> d ≪ p ->
  CE d p = CE d d + KL d p /\ CE d d <= CE d p /\ (CE d p = CE d d <-> forall y, p y = d y).
Proof. exact (fun ld lp dp => conj (Foundations.CE_decomposition ld lp dp)
  (Foundations.CE_min ld lp dp)). Qed.

(** F3. Gibbs variational principle: J_b(tilt) - J_b(p) = beta KL(p‖tilt) and J_b(tilt) = beta log Z. *)
Theorem F3_gibbs_variational_principle p ref r beta : law p -> law ref -> p ≪ ref -> 0 < beta ->
  J_b (tilt ref r beta) ref r beta - J_b p ref r beta = beta * KL p (tilt ref r beta) /\
  J_b (tilt ref r beta) ref r beta = beta * ln (Z ref r beta).
Proof.
exact (fun lp lr pr b0 => conj (Foundations.regularised_reward_gap r lp lr pr b0)
                               (Foundations.regularised_reward_value r lr b0)).
Qed.

(** F3. The maximum of J_b is beta log Z, reached at the tilt only. *)
Theorem F3_unique_maximiser p ref r beta : law p -> law ref -> p ≪ ref -> 0 < beta ->
  J_b p ref r beta <= beta * ln (Z ref r beta) /\
  (J_b p ref r beta = beta * ln (Z ref r beta) <-> forall y, p y = tilt ref r beta y).
Proof. exact (@Foundations.regularised_reward_max Y p ref r beta). Qed.

(** F5. Softmax derivatives, as derivatives in every direction g of the logits: the gradient of the
    SFT loss is p - d. *)
Theorem F5_gradient_of_sft_loss d theta g : law d ->
  is_derive (fun eta => CE d (softmax (fun y => theta y + eta * g y))) 0
            (sum (fun y => (softmax theta y - d y) * g y)).
Proof. exact (@Landscape.sft_gradient Y d theta g). Qed.

(** F5. The gradient of the raw reward is p * (r - E_p r). *)
Theorem F5_gradient_of_reward theta r g : inhabited Y ->
  is_derive (fun eta => E (softmax (fun y => theta y + eta * g y)) r) 0
            (sum (fun y => softmax theta y * (r y - E (softmax theta) r) * g y)).
Proof. exact (@Landscape.reward_gradient Y theta r g). Qed.

(** F5. The Hessian of the SFT loss is diag(p) - p p^T (bilinear form in the directions g and h). *)
Theorem F5_hessian_of_sft_loss d theta g (h : Y -> R) : law d ->
  is_derive (fun eta => sum (fun y => (softmax (fun z => theta z + eta * g z) y - d y) * h y)) 0
            (sum (fun y => softmax theta y * h y * g y) - E (softmax theta) h * E (softmax theta) g).
Proof. exact (@Landscape.sft_hessian Y d theta g h). Qed.

(** F5. KL between softmax policies is the Bregman divergence of logsumexp. *)
Theorem F5_bregman theta (theta' : Y -> R) : inhabited Y ->
  KL (softmax theta) (softmax theta') =
  ln (sum (fun y => exp (theta' y))) - ln (sum (fun y => exp (theta y)))
  - E (softmax theta) (fun y => theta' y - theta y).
Proof. exact (@Landscape.softmax_bregman Y theta theta'). Qed.

(** I1. Implicit reward: every full-support p is the tilt of a full-support ref for the reward
    beta log(p/ref), and any reward whose tilt is p differs from it by a constant. *)
Theorem I1_implicit_reward p ref r beta : law p -> law ref -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta ->
  (forall y, tilt ref (fun z => beta * ln (p z / ref z)) beta y = p y) /\
  ((forall y, tilt ref r beta y = p y) -> exists c, forall y, r y = beta * ln (p y / ref y) + c).
Proof.
exact (fun lp lr pos_p pos_ref b0 => conj
  (@Foundations.implicit_reward Y p ref beta lp lr pos_p pos_ref b0)
  (@Foundations.implicit_reward_unique Y p ref r beta lp lr pos_p pos_ref b0)).
Qed.

(** I1. With ref = d: J(p) - J(d) = beta [KL(d‖p) + KL(p‖d)] + (E_p - E_d)(r - r'). *)
Theorem I1_reward_gain p d r beta : law p -> law d -> (forall y, 0 < p y) -> (forall y, 0 < d y) ->
  0 < beta ->
  let r' := fun y => beta * ln (p y / d y) in
  E p r - E d r = beta * (KL d p + KL p d) + (E p (fun y => r y - r' y) - E d (fun y => r y - r' y)).
Proof. exact (@Foundations.implicit_reward_gain Y p d r beta). Qed.

(** I1. The last term is at most range(r - r') TV(p,d): stated for any f with values in [m, M]. *)
Theorem I1_total_variation_bound p d (f : Y -> R) m M : law p -> law d -> (forall y, m <= f y <= M) ->
  Rabs (E p f - E d f) <= (M - m) * TV p d.
Proof. exact (@Foundations.expectation_difference_TV Y p d f m M). Qed.

(** ** SFT, then RL *)

(** S1. Exact change: DeltaL(tilt) = log Z - E_d r/beta, for every d ≪ ref. *)
Theorem S1_exact_change d ref r beta : law d -> law ref -> d ≪ ref ->
  CE d (tilt ref r beta) - CE d ref = ln (Z ref r beta) - E d r / beta.
Proof. exact (@SftThenRl.loss_change_tilt Y d ref r beta). Qed.

(** S1. For any policy: DeltaL(p) = KL(ref‖p) - (E_d - E_ref) log(p/ref). *)
Theorem S1_exact_change_any_policy d p ref : law d -> law p -> law ref -> d ≪ ref -> ref ≪ p ->
  CE d p - CE d ref =
  KL ref p - (E d (fun y => ln (p y / ref y)) - E ref (fun y => ln (p y / ref y))).
Proof. exact (@SftThenRl.loss_change_any Y d p ref). Qed.

(** S2. Coupling at SFT optimality: with ref = d, DeltaL(tilt) = log E_d e^{r/beta} - E_d r/beta =
    KL(d‖tilt). *)
Theorem S2_coupling_gap d r beta : law d ->
  CE d (tilt d r beta) - CE d d = ln (E d (fun y => exp (r y / beta))) - E d r / beta /\
  CE d (tilt d r beta) - CE d d = KL d (tilt d r beta).
Proof. exact (@SftThenRl.coupling_gap Y d r beta). Qed.

(** S2. Coupling at SFT optimality: with ref = d, DeltaL(tilt) >= 0, and = 0 iff r is constant on the
    support of d. *)
Theorem S2_coupling_at_sft_optimality d r beta : law d -> 0 < beta ->
  0 <= CE d (tilt d r beta) - CE d d /\
  (CE d (tilt d r beta) - CE d d = 0 <-> forall y z, 0 < d y -> 0 < d z -> r y = r z).
Proof. exact (@SftThenRl.coupling Y d r beta). Qed.

(** S3. Two-sided size, by the two-point laws (Bennett), with v = s^2 Var_d(r), a = s (E_d r - m),
    b = s (M - E_d r) for any bounds m <= r <= M strictly around E_d r; s = 1/beta. *)
Theorem S3_two_sided_size d r beta m M : law d -> 0 < beta -> (forall y, m <= r y <= M) ->
  m < E d r < M ->
  let v := (/ beta) ^ 2 * Var d r in
  let a := / beta * (E d r - m) in
  let b := / beta * (M - E d r) in
  ln ((a ^ 2 * exp (v / a) + v * exp (- a)) / (a ^ 2 + v)) <= CE d (tilt d r beta) - CE d d
  <= ln ((b ^ 2 * exp (- v / b) + v * exp b) / (b ^ 2 + v)).
Proof. exact (@SftThenRl.coupling_two_point Y d r beta m M). Qed.

(** S3. Each of these two bounds is attained by every law on two reward levels. *)
Theorem S3_two_sided_size_attained d r beta m M : law d -> 0 < beta ->
  (forall y, r y = m \/ r y = M) -> m < E d r < M ->
  let v := (/ beta) ^ 2 * Var d r in
  let a := / beta * (E d r - m) in
  let b := / beta * (M - E d r) in
  CE d (tilt d r beta) - CE d d = ln ((a ^ 2 * exp (v / a) + v * exp (- a)) / (a ^ 2 + v)) /\
  CE d (tilt d r beta) - CE d d = ln ((b ^ 2 * exp (- v / b) + v * exp b) / (b ^ 2 + v)).
Proof. exact (@SftThenRl.coupling_two_point_attained Y d r beta m M). Qed.

(** S3. As beta -> inf (s = 1/beta -> 0), DeltaL(tilt_s) = s^2 Var_d(r)/2 + o(s^2). *)
Theorem S3_small_time d r eps : law d -> 0 < eps -> exists delta, 0 < delta /\
  forall s, 0 < s < delta ->
  Rabs (CE d (tilt_at d r s) - CE d d - s ^ 2 * Var d r / 2) <= eps * s ^ 2.
Proof. exact (@SftThenRl.coupling_small_time Y d r eps). Qed.

(** S3. DeltaL <= s^2 R^2/8 (Hoeffding). *)
Theorem S3_hoeffding d r beta m M : law d -> 0 < beta -> (forall y, m <= r y <= M) ->
  CE d (tilt d r beta) - CE d d <= (M - m) ^ 2 / (8 * beta ^ 2).
Proof. exact (@SftThenRl.coupling_hoeffding Y d r beta m M). Qed.

(** S4. Longer RL costs more: d/ds DeltaL(tilt_s) = E_{tilt_s} r - E_d r. *)
Theorem S4_derivative d r s : law d ->
  is_derive (fun s => CE d (tilt_at d r s) - CE d d) s (E (tilt_at d r s) r - E d r).
Proof. exact (@SftThenRl.loss_derivative Y d r s). Qed.

(** S4. That derivative is the integral of Var_{tilt_u}(r) for u from 0 to s. *)
Theorem S4_variance_integral d r s : law d ->
  is_RInt (fun u => Var (tilt_at d r u) r) 0 s (E (tilt_at d r s) r - E d r).
Proof. exact (@SftThenRl.reward_gain_integral Y d r s). Qed.

(** S4. The second derivative of DeltaL in s is Var_{tilt_s}(r) >= 0, so DeltaL is convex in s. *)
Theorem S4_second_derivative d r s : law d ->
  is_derive (fun s => E (tilt_at d r s) r - E d r) s (Var (tilt_at d r s) r)
    /\ 0 <= Var (tilt_at d r s) r.
Proof. exact (@SftThenRl.gain_derivative Y d r s). Qed.

(** S4. DeltaL is nondecreasing in s. *)
Theorem S4_monotone d r s t : law d -> 0 <= s <= t ->
  CE d (tilt_at d r s) - CE d d <= CE d (tilt_at d r t) - CE d d.
Proof. exact (@SftThenRl.loss_monotone Y d r s t). Qed.

(** S4. DeltaL is strictly increasing in s iff r is not constant on the support of d. *)
Theorem S4_strictly_monotone d r s t : law d -> 0 <= s < t ->
  CE d (tilt_at d r s) - CE d d < CE d (tilt_at d r t) - CE d d <->
  exists y z, 0 < d y /\ 0 < d z /\ r y <> r z.
Proof. exact (@SftThenRl.loss_strictly_monotone_iff Y d r s t). Qed.

(** S4. J(tilt) - J(d) >= beta DeltaL(tilt). *)
Theorem S4_gain_exceeds_cost d r beta : law d -> 0 < beta ->
  beta * (CE d (tilt d r beta) - CE d d) <= E (tilt d r beta) r - E d r.
Proof. exact (@SftThenRl.reward_gain_exceeds_loss Y d r beta). Qed.

(** S5. Price of reward, dual bound: any policy with J(p) >= c has KL(d‖p) >= E_d log(1 - l (r-c)/(M-c))
    for every l in [0,1] and M >= max r; l = 1 needs d = 0 where r = M. *)
Theorem S5_price_of_reward d r c M p l : law d -> (forall y, r y <= M) -> c < M ->
  law p -> d ≪ p -> c <= E p r -> 0 <= l <= 1 -> (l = 1 -> forall y, r y = M -> d y = 0) ->
  E d (fun y => ln (1 - l * (r y - c) / (M - c))) <= KL d p.
Proof. exact (fun ld rM cM => @PriceOfReward.weak_duality Y d r c M ld rM cM p l). Qed.

(** S5. Price of reward, exactly (K_inf): for M = max r and J(d) < c < M some l and p have J(p) = c,
    KL(d‖p) equal to the dual value of l, minimal among the policies with J >= c and maximal among the
    dual values. If l < 1, p = d/(1 - l (r-c)/(M-c)); if l = 1 (only when d(argmax r) = 0), so outside
    argmax r. *)
Theorem S5_price_of_reward_exact d r c M (y0 : Y) : law d -> (forall y, r y <= M) -> c < M ->
  r y0 = M -> E d r < c ->
  exists l p, 0 <= l <= 1 /\ (l = 1 -> forall y, r y = M -> d y = 0) /\
  law p /\ d ≪ p /\ E p r = c /\
  (forall y, l < 1 \/ r y <> M -> p y = d y / (1 - l * (r y - c) / (M - c))) /\
  KL d p = E d (fun y => ln (1 - l * (r y - c) / (M - c))) /\
  (forall p', law p' -> d ≪ p' -> c <= E p' r -> KL d p <= KL d p') /\
  (forall l', 0 <= l' <= 1 -> (l' = 1 -> forall y, r y = M -> d y = 0) ->
   E d (fun y => ln (1 - l' * (r y - c) / (M - c))) <= KL d p).
Proof. exact (fun ld rM cM => @PriceOfReward.price_of_reward_exact Y d r c M ld rM cM y0). Qed.

(** S5. Weaker: KL(d‖p) >= kl_bernoulli((J(d)-m)/(M-m), (c-m)/(M-m)) for c <= J(p) and bounds m <= r <=
    M with m < J(d) <= c < M. *)
Theorem S5_price_of_reward_bernoulli d r c M p m : law d -> (forall y, r y <= M) -> c < M ->
  law p -> d ≪ p -> (forall y, m <= r y) -> m < E d r -> E d r <= c -> c <= E p r ->
  let a := (E d r - m) / (M - m) in
  let b := (c - m) / (M - m) in
  a * ln (a / b) + (1 - a) * ln ((1 - a) / (1 - b)) <= KL d p.
Proof. exact (fun ld rM cM => @PriceOfReward.price_of_reward_bernoulli Y d r c M ld rM cM p m). Qed.

(** S5. Pinsker form: with ref = d, any policy has DeltaL(p) >= 2 (J(p) - J(d))^2/R^2. *)
Theorem S5_price_of_reward_pinsker d p r m M : law d -> law p -> d ≪ p -> (forall y, m <= r y <= M) ->
  m < M -> 2 * (E p r - E d r) ^ 2 / (M - m) ^ 2 <= CE d p - CE d d.
Proof. exact (@SftThenRl.price_of_reward_pinsker Y d p r m M). Qed.

(** S6. Identity: DeltaL(tilt) = KL(ref‖tilt) - (E_d r - E_ref r)/beta. *)
Theorem S6_identity d ref r beta : law d -> law ref -> d ≪ ref -> 0 < beta ->
  CE d (tilt ref r beta) - CE d ref = KL ref (tilt ref r beta) - (E d r - E ref r) / beta.
Proof. exact (@SftThenRl.threshold_identity Y d ref r beta). Qed.

(** S6. RL to the tilt lowers the SFT loss iff E_d r > beta log Z. *)
Theorem S6_lowers_iff d ref r beta : law d -> law ref -> d ≪ ref -> 0 < beta ->
  CE d (tilt ref r beta) < CE d ref <-> beta * ln (Z ref r beta) < E d r.
Proof. exact (@SftThenRl.threshold_iff Y d ref r beta). Qed.

(** S6. Threshold (Pinsker): DeltaL > 0 whenever KL(d‖ref) < 2 (beta KL(ref‖tilt)/R)^2. *)
Theorem S6_threshold d ref r beta m M : law d -> law ref -> d ≪ ref -> 0 < beta ->
  (forall y, m <= r y <= M) -> m < M ->
  KL d ref < 2 * (beta * KL ref (tilt ref r beta) / (M - m)) ^ 2 ->
  CE d ref < CE d (tilt ref r beta).
Proof. exact (@SftThenRl.threshold_pinsker Y d ref r beta m M). Qed.

(** S6. Exact radius: DeltaL > 0 whenever KL(d‖ref) < KL(tilt_t‖ref), for a t > 0 that solves
    J(tilt_t) = beta log Z. *)
Theorem S6_exact_radius d ref r beta t : law d -> law ref -> d ≪ ref -> 0 < beta -> 0 < t ->
  E (tilt_at ref r t) r = beta * ln (Z ref r beta) -> KL d ref < KL (tilt_at ref r t) ref ->
  CE d ref < CE d (tilt ref r beta).
Proof. exact (@SftThenRl.threshold_exact_radius Y d ref r beta t). Qed.

(** S6. Such a t exists in (0, s), s = 1/beta, unless r is constant on the support of ref. *)
Theorem S6_exact_radius_exists ref r beta : law ref -> 0 < beta ->
  (exists y z, 0 < ref y /\ 0 < ref z /\ r y <> r z) ->
  exists t, 0 < t < / beta /\ E (tilt_at ref r t) r = beta * ln (Z ref r beta).
Proof. exact (@SftThenRl.threshold_radius_exists Y ref r beta). Qed.

(** S6. The exact radius is never smaller than Pinsker's. *)
Theorem S6_exact_radius_vs_pinsker ref r beta t m M : law ref -> 0 < beta ->
  (forall y, m <= r y <= M) -> m < M -> E (tilt_at ref r t) r = beta * ln (Z ref r beta) ->
  2 * (beta * KL ref (tilt ref r beta) / (M - m)) ^ 2 <= KL (tilt_at ref r t) ref.
Proof. exact (@SftThenRl.threshold_radius_vs_pinsker Y ref r beta t m M). Qed.

(** S6. The exact radius is tight at d = tilt_t: DeltaL = 0 there. *)
Theorem S6_exact_radius_tight ref r beta t : law ref -> 0 < beta ->
  E (tilt_at ref r t) r = beta * ln (Z ref r beta) ->
  CE (tilt_at ref r t) (tilt ref r beta) = CE (tilt_at ref r t) ref.
Proof. exact (@SftThenRl.threshold_radius_tight Y ref r beta t). Qed.

(** S6. Best early stop: at a time s0 with J(tilt_{s0}) = J(d), DeltaL is -KL(tilt_{s0}‖ref), and at any
    other time s it is larger by KL(tilt_{s0}‖tilt_s). (That s0 exists when J(ref) < J(d) < max r: not
    here.) *)
Theorem S6_best_early_stop d ref r (s0 : R) s : law d -> law ref -> d ≪ ref ->
  E (tilt_at ref r s0) r = E d r ->
  CE d (tilt_at ref r s0) - CE d ref = - KL (tilt_at ref r s0) ref /\
  CE d (tilt_at ref r s) - CE d ref =
    (CE d (tilt_at ref r s0) - CE d ref) + KL (tilt_at ref r s0) (tilt_at ref r s).
Proof. exact (@SftThenRl.best_early_stop Y d ref r s0 s). Qed.

(** S7. Approximate SFT optimum, any RL algorithm: KL(d‖ref) <= eps implies
    J(p) <= J(d) + R sqrt((eps + DeltaL(p))/2). *)
Theorem S7_approximate_optimum d p ref r m M eps : law d -> law p -> law ref -> d ≪ p -> d ≪ ref ->
  (forall y, m <= r y <= M) -> KL d ref <= eps ->
  E p r <= E d r + (M - m) * sqrt ((eps + (CE d p - CE d ref)) / 2).
Proof. exact (@SftThenRl.approximate_optimum Y d p ref r m M eps). Qed.

(** S7. DeltaL(p) >= K_inf(d, c) - eps for every c <= J(p), with each dual value (S5) in place of K_inf. *)
Theorem S7_approximate_optimum_dual d p ref r c M l eps : law d -> law p -> law ref ->
  d ≪ p -> d ≪ ref -> (forall y, r y <= M) -> c < M -> c <= E p r -> 0 <= l < 1 -> KL d ref <= eps ->
  E d (fun y => ln (1 - l * (r y - c) / (M - c))) - eps <= CE d p - CE d ref.
Proof. exact (@SftThenRl.approximate_optimum_dual Y d p ref r c M l eps). Qed.

(** ** RL, then SFT *)

(** R1. Regularised reward: J_b(tilt) - J_b(p) = beta KL(p‖tilt) for every p. *)
Theorem R1_regularised_reward p ref r beta : law p -> law ref -> p ≪ ref -> 0 < beta ->
  J_b (tilt ref r beta) ref r beta - J_b p ref r beta = beta * KL p (tilt ref r beta).
Proof. exact (@Foundations.regularised_reward_gap Y p ref r beta). Qed.

(** R1. If a <= KL(p‖tilt) <= A, the drop lies in [beta a, beta A]. *)
Theorem R1_drop_bounds p ref r beta (a A : R) : law p -> law ref -> p ≪ ref -> 0 < beta ->
  a <= KL p (tilt ref r beta) <= A ->
  beta * a <= J_b (tilt ref r beta) ref r beta - J_b p ref r beta <= beta * A.
Proof. exact (@RlThenSft.regularised_drop_bounds Y p ref r beta a A). Qed.

(** R2. Raw reward, three points: J(tilt) - J(p) = beta [KL(p‖tilt) + KL(tilt‖ref) - KL(p‖ref)]. *)
Theorem R2_three_points p ref r beta : law p -> law ref -> p ≪ ref -> 0 < beta ->
  E (tilt ref r beta) r - E p r =
  beta * (KL p (tilt ref r beta) + KL (tilt ref r beta) ref - KL p ref).
Proof. exact (@RlThenSft.reward_drop Y p ref r beta). Qed.

(** R2. SFT lowers the raw reward iff KL(p‖ref) < KL(p‖tilt) + KL(tilt‖ref). *)
Theorem R2_lowers_iff p ref r beta : law p -> law ref -> p ≪ ref -> 0 < beta ->
  E p r < E (tilt ref r beta) r <-> KL p ref < KL p (tilt ref r beta) + KL (tilt ref r beta) ref.
Proof. exact (@RlThenSft.reward_drop_iff Y p ref r beta). Qed.

(** R3. Raw reward in the KL ball: if KL(p‖ref) <= KL(tilt‖ref) then J(p) <= J(tilt) - beta KL(p‖tilt). *)
Theorem R3_kl_ball p ref r beta : law p -> law ref -> p ≪ ref -> 0 < beta ->
  KL p ref <= KL (tilt ref r beta) ref ->
  E p r <= E (tilt ref r beta) r - beta * KL p (tilt ref r beta).
Proof. exact (@RlThenSft.reward_drop_in_kl_ball Y p ref r beta). Qed.

(** R3. Strict form: in that ball every other policy has a smaller reward. *)
Theorem R3_kl_ball_strict p ref r beta (y : Y) : law p -> law ref -> p ≪ ref -> 0 < beta ->
  KL p ref <= KL (tilt ref r beta) ref -> p y <> tilt ref r beta y ->
  E p r < E (tilt ref r beta) r.
Proof. exact (@RlThenSft.reward_drop_in_kl_ball_strict Y p ref r beta y). Qed.

(** R4. Size of the change, Pinsker form: |J(p) - J(tilt)| <= R sqrt(KL(p‖tilt)/2). *)
Theorem R4_pinsker p ref r beta m M : law p -> law ref -> p ≪ ref -> (forall y, m <= r y <= M) ->
  Rabs (E p r - E (tilt ref r beta) r) <= (M - m) * sqrt (KL p (tilt ref r beta) / 2).
Proof. exact (@RlThenSft.reward_change_pinsker Y p ref r beta m M). Qed.

(** R4. Bretagnolle-Huber form: |J(p) - J(tilt)| <= R sqrt(1 - e^{-KL(p‖tilt)}). *)
Theorem R4_bretagnolle_huber p ref r beta m M : law p -> law ref -> p ≪ ref ->
  (forall y, m <= r y <= M) ->
  Rabs (E p r - E (tilt ref r beta) r) <= (M - m) * sqrt (1 - exp (- KL p (tilt ref r beta))).
Proof. exact (@RlThenSft.reward_change_bretagnolle_huber Y p ref r beta m M). Qed.

(** R4. Bernstein form for rises: J(p) - J(tilt) <= sqrt(2 A Var_tilt(r)) + (M - J(tilt)) A/3, A =
    KL(p‖tilt). *)
Theorem R4_bernstein_rise p ref r beta M : law p -> law ref -> p ≪ ref -> (forall y, r y <= M) ->
  let t := tilt ref r beta in E t r < M ->
  E p r - E t r <= sqrt (2 * KL p t * Var t r) + (M - E t r) * KL p t / 3.
Proof. exact (@RlThenSft.reward_rise_bernstein Y p ref r beta M). Qed.

(** R4. Bernstein form for drops: J(tilt) - J(p) <= sqrt(2 A Var_tilt(r)) + (J(tilt) - m) A/3, A =
    KL(p‖tilt). *)
Theorem R4_bernstein_drop p ref r beta m : law p -> law ref -> p ≪ ref -> (forall y, m <= r y) ->
  let t := tilt ref r beta in m < E t r ->
  E t r - E p r <= sqrt (2 * KL p t * Var t r) + (E t r - m) * KL p t / 3.
Proof. exact (@RlThenSft.reward_drop_bernstein Y p ref r beta m). Qed.

(** R4. Exact extremes: over the ball around tilt_s of radius KL(tilt_{s+t}‖tilt_s), J is largest
    (t > 0) or smallest (t < 0) at tilt_{s+t}. *)
Theorem R4_extremes p ref r s t : law p -> law ref -> p ≪ ref ->
  KL p (tilt_at ref r s) <= KL (tilt_at ref r (s + t)) (tilt_at ref r s) ->
  (0 < t -> E p r <= E (tilt_at ref r (s + t)) r) /\
  (t < 0 -> E (tilt_at ref r (s + t)) r <= E p r).
Proof. exact (@RlThenSft.reward_extremes Y p ref r s t). Qed.

(** R5. (ii) p that moves mass (K y z from y to z) only within level sets of r keeps the reward. *)
Theorem R5_level_sets_keep_reward p (p' : Y -> R) r (K : Y -> Y -> R) :
  (forall y, sum (fun z => K y z) = p y) -> (forall z, sum (fun y => K y z) = p' z) ->
  (forall y z, K y z <> 0 -> r y = r z) -> E p' r = E p r.
Proof. exact (@RlThenSft.level_sets_keep_reward Y p p' r K). Qed.

(** R5. For every non-constant r some p has J(p) > J(tilt). *)
Theorem R5_some_policy_beats_tilt ref r beta : law ref -> 0 < beta ->
  (exists y z, 0 < ref y /\ 0 < ref z /\ r y <> r z) ->
  exists p, law p /\ p ≪ ref /\ E (tilt ref r beta) r < E p r.
Proof. exact (@RlThenSft.some_policy_beats_tilt Y ref r beta). Qed.

(** R6. Cycle law, ref = d: J(tilt) - J(d) = beta [KL(d‖tilt) + KL(tilt‖d)]. *)
Theorem R6_cycle_law d r beta : law d -> 0 < beta ->
  E (tilt d r beta) r - E d r = beta * (KL d (tilt d r beta) + KL (tilt d r beta) d).
Proof. exact (@SftThenRl.cycle_gain Y d r beta). Qed.

(** R7. On the mixture path (1 - t) p + t d, J is affine in t. *)
Theorem R7_reward_along_mixture p d r t :
  E (fun y => (1 - t) * p y + t * d y) r = (1 - t) * E p r + t * E d r.
Proof. exact (@RlThenSft.reward_mixture Y p d r t). Qed.

(** R7. On the mixture path from the tilt to d, J_b falls strictly unless d is the tilt. *)
Theorem R7_regularised_reward_along_mixture d ref r beta t (t' : R) (y : Y) : law d -> law ref ->
  d ≪ ref -> 0 < beta -> 0 <= t < t' -> t' <= 1 -> d y <> tilt ref r beta y ->
  J_b (fun z => (1 - t') * tilt ref r beta z + t' * d z) ref r beta <
  J_b (fun z => (1 - t) * tilt ref r beta z + t * d z) ref r beta.
Proof. exact (@RlThenSft.regularised_reward_along_mixture Y d ref r beta t t' y). Qed.

(** R7. One softmax SFT step of size eta from p changes J by -eta <p - d, p*(r - E_p r)> + o(eta). *)
Theorem R7_first_sft_step d theta r : law d ->
  let p := softmax theta in
  is_derive (fun eta => E (softmax (fun y => theta y - eta * (p y - d y))) r) 0
            (- sum (fun y => (p y - d y) * (p y * (r y - E p r)))).
Proof. exact (@Landscape.first_sft_step Y d theta r). Qed.

(** R8. Approximate RL optimum: J_b(p1) - J_b(p2) = beta [KL(p2‖tilt) - KL(p1‖tilt)]. *)
Theorem R8_between_two_policies (p1 p2 : Y -> R) ref r beta : law p1 -> law p2 -> law ref ->
  p1 ≪ ref -> p2 ≪ ref -> 0 < beta ->
  J_b p1 ref r beta - J_b p2 ref r beta = beta * (KL p2 (tilt ref r beta) - KL p1 (tilt ref r beta)).
Proof. exact (@RlThenSft.regularised_drop_between Y p1 p2 ref r beta). Qed.

(** R8. The drop is guaranteed iff SFT ends farther from the tilt than RL did. *)
Theorem R8_drop_iff (p1 p2 : Y -> R) ref r beta : law p1 -> law p2 -> law ref ->
  p1 ≪ ref -> p2 ≪ ref -> 0 < beta ->
  J_b p2 ref r beta < J_b p1 ref r beta <-> KL p1 (tilt ref r beta) < KL p2 (tilt ref r beta).
Proof. exact (@RlThenSft.regularised_drop_between_iff Y p1 p2 ref r beta). Qed.

(** R8. With RL suboptimality at most delta, the drop is at least beta KL(p2‖tilt) - delta. *)
Theorem R8_suboptimal_rl (p1 p2 : Y -> R) ref r beta (delta : R) : law p1 -> law p2 -> law ref ->
  p1 ≪ ref -> p2 ≪ ref -> 0 < beta ->
  J_b (tilt ref r beta) ref r beta - J_b p1 ref r beta <= delta ->
  beta * KL p2 (tilt ref r beta) - delta <= J_b p1 ref r beta - J_b p2 ref r beta.
Proof. exact (@RlThenSft.regularised_drop_suboptimal Y p1 p2 ref r beta delta). Qed.

(** ** Landscape *)

(** P1. PL of the SFT loss: 1/2 ‖p - d‖^2 >= (m/2) KL(d‖p) for m <= min p (p - d is the gradient: F5). *)
Theorem P1_pl_sft_loss p d m : law p -> law d -> 0 < m -> (forall y, m <= p y) ->
  m / 2 * KL d p <= 1 / 2 * sum (fun y => (p y - d y) ^ 2).
Proof. exact (@Landscape.pl_sft_loss Y p d m). Qed.

(** The squared norm of g centred at its mean over the responses. *)
Local Notation centred_sq g :=
  (\big[Rplus/0]_(y : Y) (g y - (\big[Rplus/0]_(z : Y) g z) / (\big[Rplus/0]_(z : Y) 1)) ^ 2).

(** P2. Sandwich: (m/2) D <= KL(p_theta‖p_theta') <= D/4, D = ‖(theta - theta')_c‖^2, for 0 < m <= min
    over y of both policies. *)
Theorem P2_sandwich theta (theta' : Y -> R) m : inhabited Y -> 0 < m ->
  (forall y, m <= softmax theta y) -> (forall y, m <= softmax theta' y) ->
  let D := centred_sq (fun y => theta' y - theta y) in
  m / 2 * D <= KL (softmax theta) (softmax theta') <= D / 4.
Proof. exact (@Landscape.logit_sandwich Y theta theta' m). Qed.

(** P2. At SFT optimality the tilt raises the loss by between (m/2)‖r_c‖^2/beta^2 and ‖r_c‖^2/(4
    beta^2). *)
Theorem P2_coupling_sandwich d r beta m : law d -> 0 < beta -> 0 < m -> (forall y, m <= d y) ->
  (forall y, m <= tilt d r beta y) ->
  m / 2 * centred_sq r / beta ^ 2 <= CE d (tilt d r beta) - CE d d <= centred_sq r / (4 * beta ^ 2).
Proof. exact (@Landscape.coupling_sandwich Y d r beta m). Qed.

(** P3. The gradient of J_b in the logits is p * (phi - E_p phi), phi = r - beta log(p/ref). *)
Theorem P3_gradient theta ref r beta g : inhabited Y -> (forall y, 0 < ref y) ->
  let p := softmax theta in
  let phi := fun y => r y - beta * ln (p y / ref y) in
  is_derive (fun eta => J_b (softmax (fun y => theta y + eta * g y)) ref r beta) 0
            (sum (fun y => p y * (phi y - E p phi) * g y)).
Proof. exact (@Landscape.regularised_reward_gradient Y theta ref r beta g). Qed.

(** P3. PL of the regularised reward: 1/2 ‖grad J_b‖^2 >= 2 beta m^2 (J_b(tilt) - J_b(p)) for 0 < m <=
    min p. *)
Theorem P3_pl_regularised_reward p ref r beta m : law p -> law ref -> (forall y, 0 < ref y) ->
  0 < beta -> 0 < m -> (forall y, m <= p y) ->
  let phi := fun y => r y - beta * ln (p y / ref y) in
  2 * beta * m ^ 2 * (J_b (tilt ref r beta) ref r beta - J_b p ref r beta) <=
  1 / 2 * sum (fun y => (p y * (phi y - E p phi)) ^ 2).
Proof. exact (@Landscape.pl_regularised_reward Y p ref r beta m). Qed.

(** P3. J_b(tilt) - J_b(p) >= beta (m/2) D, where D is the squared centred difference of the logits
    theta of p and theta' of the tilt, and 0 < m <= both policies. *)
Theorem P3_drop_from_tilt theta (theta' : Y -> R) ref r beta m : law ref -> 0 < beta -> 0 < m ->
  (forall y, 0 < ref y) -> (forall y, tilt ref r beta y = softmax theta' y) ->
  (forall y, m <= softmax theta y) -> (forall y, m <= softmax theta' y) ->
  beta * (m / 2 * centred_sq (fun y => theta' y - theta y)) <=
  J_b (tilt ref r beta) ref r beta - J_b (softmax theta) ref r beta.
Proof. exact (@Landscape.regularised_drop_lower Y theta theta' ref r beta m). Qed.

(** P4. Exact step identity: L(theta + eta g) - L(theta) = eta <p - d, g> + KL(p_theta‖p_{theta + eta
    g}). *)
Theorem P4_step_identity d theta g eta : law d ->
  let p := softmax theta in
  let p' := softmax (fun y => theta y + eta * g y) in
  CE d p' - CE d p = eta * sum (fun y => (p y - d y) * g y) + KL p p'.
Proof. exact (@Landscape.step_identity Y d theta g eta). Qed.

(** P4. So the step lowers the SFT loss iff eta <d - p, g> > KL(p_theta‖p_{theta + eta g}). *)
Theorem P4_step_improves_iff d theta g eta : law d ->
  let p := softmax theta in
  let p' := softmax (fun y => theta y + eta * g y) in
  CE d p' < CE d p <-> KL p p' < eta * sum (fun y => (d y - p y) * g y).
Proof. exact (@Landscape.step_improves_iff Y d theta g eta). Qed.

(** P4. Sufficient: a step eta > 0 with <d - p, g> > eta ‖g_c‖^2/4 lowers the SFT loss. *)
Theorem P4_sufficient d theta g eta : law d -> 0 < eta ->
  let p := softmax theta in
  let p' := softmax (fun y => theta y + eta * g y) in
  eta * centred_sq g / 4 < sum (fun y => (d y - p y) * g y) -> CE d p' < CE d p.
Proof. exact (@Landscape.step_improves_if Y d theta g eta). Qed.

(** ** Joint training *)

(** J1. Joint optimum: a full-support law p_joint exists that satisfies the first-order condition of
    F(p) = J_b(p) - lambda CE(d,p), here in the form r - beta log(p_joint/ref) + lambda d/p_joint = mu. *)
Theorem J1_joint_optimum_exists d ref r beta lambda : law d -> (forall y, 0 < ref y) -> 0 < beta ->
  0 <= lambda ->
  exists joint mu, law joint /\ (forall y, 0 < joint y) /\
  (forall y, r y - beta * ln (joint y / ref y) + lambda * d y / joint y = mu).
Proof. exact (@Decoupling.joint_exists Y d ref r beta lambda). Qed.

(** J1. That p_joint is the only maximiser of F. (The closed form through W, strict concavity and the
    Pareto frontier are not proved here.) *)
Theorem J1_unique_maximiser p joint d ref r beta lambda mu : law p -> law joint -> law d ->
  (forall y, 0 < ref y) -> (forall y, 0 < joint y) -> d ≪ p -> 0 < beta -> 0 <= lambda ->
  (forall y, r y - beta * ln (joint y / ref y) + lambda * d y / joint y = mu) ->
  J_b p ref r beta - lambda * CE d p <= J_b joint ref r beta - lambda * CE d joint /\
  (J_b p ref r beta - lambda * CE d p = J_b joint ref r beta - lambda * CE d joint <->
   forall y, p y = joint y).
Proof. exact (@Decoupling.joint_unique Y p joint d ref r beta lambda mu). Qed.

(** J2. Exact form: F(p_joint) - F(p) = beta KL(p‖p_joint) + lambda E_d[z - 1 - log z], z = p/p_joint,
    where p_joint is the full-support law that satisfies the first-order condition of J1. *)
Theorem J2_exact_gap p joint d ref r beta lambda mu : law p -> law joint -> law d ->
  (forall y, 0 < ref y) -> (forall y, 0 < joint y) -> d ≪ p ->
  (forall y, r y - beta * ln (joint y / ref y) + lambda * d y / joint y = mu) ->
  (J_b joint ref r beta - lambda * CE d joint) - (J_b p ref r beta - lambda * CE d p) =
  beta * KL p joint + lambda * E d (fun y => p y / joint y - 1 - ln (p y / joint y)).
Proof. exact (@Decoupling.joint_gap Y p joint d ref r beta lambda mu). Qed.

(** J2. No free order: J_b(p) - J_b(p_joint) <= lambda [CE(d,p) - CE(d,p_joint)] for every p. *)
Theorem J2_no_free_order p joint d ref r beta lambda mu : law p -> law joint -> law d ->
  (forall y, 0 < ref y) -> (forall y, 0 < joint y) -> d ≪ p -> 0 < beta -> 0 <= lambda ->
  (forall y, r y - beta * ln (joint y / ref y) + lambda * d y / joint y = mu) ->
  J_b p ref r beta - J_b joint ref r beta <= lambda * (CE d p - CE d joint).
Proof. exact (@Decoupling.joint_optimal Y p joint d ref r beta lambda mu). Qed.

End OnePrompt.

(** ** Sequences *)

(** F4. Chain rule, two steps: a from p, then b from p' a; q, q' likewise. *)
Theorem F4_chain_rule_two_steps (A B : finType) (p q : A -> R) (p' q' : A -> B -> R) :
  law p -> law q -> p ≪ q ->
  (forall a, law (p' a)) -> (forall a, law (q' a)) -> (forall a, p' a ≪ q' a) ->
  KL (fun ab : prod_finType A B => p ab.1 * p' ab.1 ab.2) (fun ab => q ab.1 * q' ab.1 ab.2) =
  KL p q + E p (fun a => KL (p' a) (q' a)).
Proof. exact (@ChainRule.chain_rule_two_steps A B p q p' q'). Qed.

(** F4. Chain rule for T tokens after the tokens h: KL of sequence laws = sum over t < T of
    E_{y_<t ~ first argument} KL(token laws). [sequence_law p h T] is the product of the token
    probabilities p (h y_<t) y_t, defined by recursion on T in ChainRule.v. *)
Theorem F4_chain_rule (V : finType) (p q : list V -> V -> R) (h : list V) (T : nat) :
  (forall h, law (p h)) -> (forall h, law (q h)) -> (forall h, p h ≪ q h) ->
  KL (@ChainRule.sequence_law V p h T) (@ChainRule.sequence_law V q h T) =
  sum (fun t : ordinal_finType T => E (@ChainRule.sequence_law V p h t) (fun s =>
    KL (p (h ++ ChainRule.tokens s)) (q (h ++ ChainRule.tokens s)))).
Proof. exact (@ChainRule.chain_rule V p q h T). Qed.

(** ** Worlds that refute "SFT after RL always lowers the raw reward" *)

(** R5. (i) Constant r: some p other than the tilt has the tilt's reward (two responses). *)
Theorem R5_constant_reward_refutes : exists (ref p r : bool_finType -> R) (beta : R),
  law ref /\ law p /\ (forall y, 0 < ref y) /\ 0 < beta /\
  (exists y, p y <> tilt ref r beta y) /\ E p r = E (tilt ref r beta) r.
Proof. exact RlThenSft.constant_reward_no_drop. Qed.

(** R5. (iii) With KL(p‖ref) > KL(p‖tilt) + KL(tilt‖ref) the reward rises (two responses). *)
Theorem R5_reward_can_rise : exists (ref p r : bool_finType -> R) (beta : R),
  law ref /\ law p /\ (forall y, 0 < ref y) /\ 0 < beta /\
  KL p (tilt ref r beta) + KL (tilt ref r beta) ref < KL p ref /\ E (tilt ref r beta) r < E p r.
Proof. exact RlThenSft.reward_can_rise. Qed.

(** R7. Refuted: "the first SFT step from the tilt lowers the raw reward". With ref = d and three
    responses, the derivative of J along that step (R7_first_sft_step) is positive at the tilt. *)
Theorem R7_first_step_can_raise_reward : exists (d r : ordinal_finType 3 -> R) (beta : R),
  law d /\ (forall y, 0 < d y) /\ 0 < beta /\
  let p := tilt d r beta in 0 < - sum (fun y => (p y - d y) * (p y * (r y - E p r))).
Proof. exact Landscape.first_sft_step_can_raise_reward. Qed.

(** ** Averages over prompts x with law q; each prompt has its own response type [Y x]

    The width w stands for R: the rewards of prompt x lie in [m x, m x + w]. A theorem that does not
    assume [law q] holds for any weights q. *)
Section Averaged.
Variables (X : finType) (Y : X -> finType) (q : X -> R).
Implicit Types (p d ref r : forall x, Y x -> R) (m : X -> R) (beta w eps : R).

(** D1. Exact decoupling: with prompt laws q_SFT and q_RL and ref = d, the loss change of the RL
    optimum that equals ref wherever q_RL = 0 vanishes iff r(x,.) is constant on supp d(.|x) for every x
    in both supports. *)
Theorem D1_exact_decoupling (q_sft q_rl : X -> R) d r beta :
  law q_sft -> law q_rl -> (forall x, law (d x)) -> 0 < beta ->
  let rl := fun x => if Req_EM_T (q_rl x) 0 then d x else tilt (d x) (r x) beta in
  E q_sft (fun x => CE (d x) (rl x) - CE (d x) (d x)) = 0 <->
  (forall x, 0 < q_sft x -> 0 < q_rl x -> forall y z, 0 < d x y -> 0 < d x z -> r x y = r x z).
Proof. exact (@Decoupling.decoupling_iff X Y q_sft q_rl d r beta). Qed.

(** D1. That policy does maximise the regularised reward averaged over q_RL. *)
Theorem D1_rl_optimum (q_rl : X -> R) d r beta p :
  law q_rl -> (forall x, law (d x)) -> (forall x, law (p x)) -> (forall x, p x ≪ d x) -> 0 < beta ->
  let rl := fun x => if Req_EM_T (q_rl x) 0 then d x else tilt (d x) (r x) beta in
  E q_rl (fun x => J_b (p x) (d x) (r x) beta) <= E q_rl (fun x => J_b (rl x) (d x) (r x) beta).
Proof. exact (@Decoupling.rl_optimum_is_optimal X Y q_rl d r beta p). Qed.

(** D1. Disjoint prompts decouple a tabular policy. *)
Theorem D1_disjoint_prompts (q_sft q_rl : X -> R) d r beta :
  law q_sft -> law q_rl -> (forall x, law (d x)) -> 0 < beta -> (forall x, q_sft x = 0 \/ q_rl x = 0) ->
  let rl := fun x => if Req_EM_T (q_rl x) 0 then d x else tilt (d x) (r x) beta in
  E q_sft (fun x => CE (d x) (rl x) - CE (d x) (d x)) = 0.
Proof. exact (@Decoupling.disjoint_prompts_decouple X Y q_sft q_rl d r beta). Qed.

Local Notation J p r := (E q (fun x => E (p x) (r x))).
Local Notation KLq p ref := (E q (fun x => KL (p x) (ref x))).
Local Notation Lq d p := (E q (fun x => CE (d x) (p x))).
Local Notation logZ ref r beta := (E q (fun x => ln (Z (ref x) (r x) beta))).
Local Notation tilts ref r beta := (fun x => tilt (ref x) (r x) beta).
Local Notation J_bq p ref r beta := (J p r - beta * KLq p ref).
Local Notation laws p := (forall x, law (p x)).
Local Notation "p ≪≪ ref" := (forall x, p x ≪ ref x) (at level 70).

(** F3 (averaged). J_b(tilt) - J_b(p) = beta E_q KL(p‖tilt); J_b(tilt) = beta E_q log Z. *)
Theorem F3_averaged p ref r beta : law q -> 0 < beta -> laws p -> laws ref -> p ≪≪ ref ->
  J_bq (tilts ref r beta) ref r beta - J_bq p ref r beta = beta * KLq p (tilts ref r beta) /\
  J_bq (tilts ref r beta) ref r beta = beta * logZ ref r beta.
Proof. exact (fun lq b0 lp lr pr => conj
  (@Averages.avg_regularised_reward_gap X Y q beta b0 p ref r lp lr pr)
  (@Averages.avg_regularised_reward_value X Y q beta b0 ref r lr)). Qed.

(** F3 (averaged). max J_b = beta E_q log Z, at the tilt only (on every prompt that q gives mass). *)
Theorem F3_unique_maximiser_averaged p ref r beta : law q -> 0 < beta -> laws p -> laws ref ->
  p ≪≪ ref ->
  J_bq p ref r beta <= beta * logZ ref r beta /\
  (J_bq p ref r beta = beta * logZ ref r beta <->
   forall x, 0 < q x -> forall y, p x y = tilts ref r beta x y).
Proof. exact (fun lq b0 => @Averages.avg_regularised_reward_max X Y q lq beta b0 p ref r). Qed.

(** S1 (averaged). DeltaL(tilt) = E_q log Z - J(d)/beta. *)
Theorem S1_exact_change_averaged d ref r beta : laws d -> laws ref -> d ≪≪ ref ->
  Lq d (tilts ref r beta) - Lq d ref = logZ ref r beta - J d r / beta.
Proof. exact (@Averages.avg_loss_change_tilt X Y q beta d ref r). Qed.

(** S2 (averaged). With ref = d: DeltaL(tilt) = E_q log Z - J(d)/beta = E_q KL(d‖tilt). *)
Theorem S2_coupling_gap_averaged d r beta : law q -> laws d ->
  Lq d (tilts d r beta) - Lq d d = logZ d r beta - J d r / beta /\
  Lq d (tilts d r beta) - Lq d d = KLq d (tilts d r beta).
Proof. exact (fun lq => @Averages.avg_coupling_gap X Y q lq beta d r). Qed.

(** S2 (averaged). DeltaL(tilt) >= 0, = 0 iff r(x,.) is constant on supp d(.|x) for every x with q(x) >
    0. *)
Theorem S2_coupling_at_sft_optimality_averaged d r beta : law q -> 0 < beta -> laws d ->
  0 <= Lq d (tilts d r beta) - Lq d d /\
  (Lq d (tilts d r beta) - Lq d d = 0 <->
   forall x, 0 < q x -> forall y z, 0 < d x y -> 0 < d x z -> r x y = r x z).
Proof. exact (fun lq b0 => @Averages.avg_coupling X Y q lq beta b0 d r). Qed.

(** S3 (averaged). DeltaL <= s^2 R^2/8. *)
Theorem S3_hoeffding_averaged d r m w beta : law q -> 0 < beta -> laws d ->
  (forall x y, m x <= r x y <= m x + w) ->
  Lq d (tilts d r beta) - Lq d d <= w ^ 2 / (8 * beta ^ 2).
Proof. exact (fun lq b0 => @Averages.avg_coupling_hoeffding X Y q lq beta b0 d r m w). Qed.

(** S4 (averaged). The SFT loss of tilt_s is nondecreasing in s. *)
Theorem S4_monotone_averaged d r (s t : R) : law q -> laws d -> 0 <= s <= t ->
  Lq d (fun x => tilt_at (d x) (r x) s) <= Lq d (fun x => tilt_at (d x) (r x) t).
Proof. exact (fun lq => @Averages.avg_loss_monotone X Y q lq d r s t). Qed.

(** S5 (averaged, Pinsker form). With ref = d, any policy has DeltaL(p) >= 2 (J(p) - J(d))^2/R^2. *)
Theorem S5_price_of_reward_pinsker_averaged d p r m w : law q -> laws d -> laws p -> d ≪≪ p ->
  (forall x y, m x <= r x y <= m x + w) -> 0 < w ->
  2 * (J p r - J d r) ^ 2 / w ^ 2 <= Lq d p - Lq d d.
Proof. exact (fun lq => @Averages.avg_price_of_reward_pinsker X Y q lq d p r m w). Qed.

(** S5 (averaged). Dual bound with a target, an upper bound and a dual variable for each prompt. *)
Theorem S5_price_of_reward_averaged d p r (c M l : X -> R) : law q -> laws d -> laws p -> d ≪≪ p ->
  (forall x y, r x y <= M x) -> (forall x, c x < M x) -> (forall x, c x <= E (p x) (r x)) ->
  (forall x, 0 <= l x < 1) ->
  E q (fun x => E (d x) (fun y => ln (1 - l x * (r x y - c x) / (M x - c x)))) <= KLq d p.
Proof. exact (fun lq => @Averages.avg_price_of_reward X Y q lq d p r c M l). Qed.

(** S6 (averaged). DeltaL(tilt) = E_q KL(ref‖tilt) - (J(d) - J(ref))/beta. *)
Theorem S6_identity_averaged d ref r beta : 0 < beta -> laws d -> laws ref -> d ≪≪ ref ->
  Lq d (tilts ref r beta) - Lq d ref = KLq ref (tilts ref r beta) - (J d r - J ref r) / beta.
Proof. exact (fun b0 => @Averages.avg_threshold_identity X Y q beta b0 d ref r). Qed.

(** S6 (averaged). RL to the tilt lowers the SFT loss iff J(d) > beta E_q log Z. *)
Theorem S6_lowers_iff_averaged d ref r beta : 0 < beta -> laws d -> laws ref -> d ≪≪ ref ->
  Lq d (tilts ref r beta) < Lq d ref <-> beta * logZ ref r beta < J d r.
Proof. exact (fun b0 => @Averages.avg_threshold_iff X Y q beta b0 d ref r). Qed.

(** S6 (averaged). DeltaL > 0 whenever E_q KL(d‖ref) < 2 (beta E_q KL(ref‖tilt)/R)^2. *)
Theorem S6_threshold_averaged d ref r m w beta : law q -> 0 < beta -> laws d -> laws ref -> d ≪≪ ref ->
  (forall x y, m x <= r x y <= m x + w) -> 0 < w ->
  KLq d ref < 2 * (beta * KLq ref (tilts ref r beta) / w) ^ 2 ->
  Lq d ref < Lq d (tilts ref r beta).
Proof. exact (fun lq b0 => @Averages.avg_threshold_pinsker X Y q lq beta b0 d ref r m w). Qed.

(** S6 (averaged). Exact radius: DeltaL > 0 whenever E_q KL(d‖ref) < E_q KL(tilt_t‖ref), for a t > 0
    that solves J(tilt_t) = beta E_q log Z. (That such a t exists is proved for one prompt only.) *)
Theorem S6_exact_radius_averaged d ref r beta (t : R) : law q -> 0 < beta ->
  laws d -> laws ref -> d ≪≪ ref -> 0 < t ->
  J (fun x => tilt_at (ref x) (r x) t) r = beta * logZ ref r beta ->
  KLq d ref < KLq (fun x => tilt_at (ref x) (r x) t) ref ->
  Lq d ref < Lq d (tilts ref r beta).
Proof. exact (fun lq b0 => @Averages.avg_threshold_exact_radius X Y q lq beta b0 d ref r t). Qed.

(** S7 (averaged). DeltaL(p) >= E_q K_inf(d_x, c_x) - eps with c_x <= J_x(p), each dual value (S5) in
    place of K_inf. *)
Theorem S7_approximate_optimum_dual_averaged d p ref r (c M l : X -> R) eps : law q ->
  laws d -> laws p -> laws ref -> d ≪≪ p -> d ≪≪ ref ->
  (forall x y, r x y <= M x) -> (forall x, c x < M x) -> (forall x, c x <= E (p x) (r x)) ->
  (forall x, 0 <= l x < 1) -> KLq d ref <= eps ->
  E q (fun x => E (d x) (fun y => ln (1 - l x * (r x y - c x) / (M x - c x)))) - eps <= Lq d p
    - Lq d ref.
Proof. exact (fun lq => @Averages.avg_approximate_optimum_dual X Y q lq d p ref r c M l eps). Qed.

(** S7 (averaged). E_q KL(d‖ref) <= eps implies J(p) <= J(d) + R sqrt((eps + DeltaL(p))/2). *)
Theorem S7_approximate_optimum_averaged d p ref r m w eps : law q -> laws d -> laws p -> laws ref ->
  d ≪≪ p -> d ≪≪ ref ->
  (forall x y, m x <= r x y <= m x + w) -> KLq d ref <= eps ->
  J p r <= J d r + w * sqrt ((eps + (Lq d p - Lq d ref)) / 2).
Proof. exact (fun lq => @Averages.avg_approximate_optimum X Y q lq d p ref r m w eps). Qed.

(** R1 (averaged). If a <= E_q KL(p‖tilt) <= A, the drop of J_b lies in [beta a, beta A]. *)
Theorem R1_drop_bounds_averaged p ref r (a A : R) beta : law q -> 0 < beta -> laws p -> laws ref ->
  p ≪≪ ref -> a <= KLq p (tilts ref r beta) <= A ->
  beta * a <= J_bq (tilts ref r beta) ref r beta - J_bq p ref r beta <= beta * A.
Proof. exact (fun _ b0 => @Averages.avg_regularised_drop_bounds X Y q beta b0 p ref r a A). Qed.

(** R2 (averaged). J(tilt) - J(p) = beta E_q [KL(p‖tilt) + KL(tilt‖ref) - KL(p‖ref)]. *)
Theorem R2_three_points_averaged p ref r beta : 0 < beta -> laws p -> laws ref -> p ≪≪ ref ->
  J (tilts ref r beta) r - J p r =
  beta * (KLq p (tilts ref r beta) + KLq (tilts ref r beta) ref - KLq p ref).
Proof. exact (fun b0 => @Averages.avg_reward_drop X Y q beta b0 p ref r). Qed.

(** R2 (averaged). SFT lowers J iff E_q KL(p‖ref) < E_q KL(p‖tilt) + E_q KL(tilt‖ref). *)
Theorem R2_lowers_iff_averaged p ref r beta : 0 < beta -> laws p -> laws ref -> p ≪≪ ref ->
  J p r < J (tilts ref r beta) r <-> KLq p ref < KLq p (tilts ref r beta) + KLq (tilts ref r beta) ref.
Proof. exact (fun b0 => @Averages.avg_reward_drop_iff X Y q beta b0 p ref r). Qed.

(** R3 (averaged). If E_q KL(p‖ref) <= E_q KL(tilt‖ref) then J(p) <= J(tilt) - beta E_q KL(p‖tilt),
    strictly below J(tilt) when p differs from the tilt on a prompt with q(x) > 0. *)
Theorem R3_kl_ball_averaged p ref r beta : law q -> 0 < beta -> laws p -> laws ref -> p ≪≪ ref ->
  KLq p ref <= KLq (tilts ref r beta) ref ->
  J p r <= J (tilts ref r beta) r - beta * KLq p (tilts ref r beta) /\
  (forall x y, 0 < q x -> p x y <> tilts ref r beta x y -> J p r < J (tilts ref r beta) r).
Proof. exact (fun lq b0 => @Averages.avg_reward_drop_in_kl_ball X Y q lq beta b0 p ref r). Qed.

(** R4 (averaged, Pinsker form). |J(p) - J(tilt)| <= R sqrt(E_q KL(p‖tilt)/2). *)
Theorem R4_pinsker_averaged p ref r m w beta : law q -> laws p -> laws ref -> p ≪≪ ref ->
  (forall x y, m x <= r x y <= m x + w) ->
  Rabs (J p r - J (tilts ref r beta) r) <= w * sqrt (KLq p (tilts ref r beta) / 2).
Proof. exact (fun lq => @Averages.avg_reward_change_pinsker X Y q lq beta p ref r m w). Qed.

(** R4 (averaged, Bretagnolle-Huber form). |J(p) - J(tilt)| <= R sqrt(1 - e^{-E_q KL(p‖tilt)}). *)
Theorem R4_bretagnolle_huber_averaged p ref r m w beta : law q -> laws p -> laws ref -> p ≪≪ ref ->
  (forall x y, m x <= r x y <= m x + w) ->
  Rabs (J p r - J (tilts ref r beta) r) <= w * sqrt (1 - exp (- KLq p (tilts ref r beta))).
Proof. exact (fun lq => @Averages.avg_reward_change_bretagnolle_huber X Y q lq beta p ref r m w). Qed.

(** R6 (averaged). ref = d: J(tilt) - J(d) = beta E_q [KL(d‖tilt) + KL(tilt‖d)]. *)
Theorem R6_cycle_law_averaged d r beta : 0 < beta -> laws d ->
  J (tilts d r beta) r - J d r = beta * (KLq d (tilts d r beta) + KLq (tilts d r beta) d).
Proof. exact (fun b0 => @Averages.avg_cycle_gain X Y q beta b0 d r). Qed.

(** R8 (averaged). J_b(p1) - J_b(p2) = beta E_q [KL(p2‖tilt) - KL(p1‖tilt)]. *)
Theorem R8_between_two_policies_averaged (p1 p2 : forall x, Y x -> R) ref r beta : law q -> 0 < beta ->
  laws p1 -> laws p2 -> laws ref -> p1 ≪≪ ref -> p2 ≪≪ ref ->
  J_bq p1 ref r beta - J_bq p2 ref r beta =
  beta * (KLq p2 (tilts ref r beta) - KLq p1 (tilts ref r beta)).
Proof. exact (fun _ b0 => @Averages.avg_regularised_drop_between X Y q beta b0 p1 p2 ref r). Qed.

(** R8 (averaged). With RL suboptimality at most delta, the drop is at least beta E_q KL(p2‖tilt) -
    delta. *)
Theorem R8_suboptimal_rl_averaged (p1 p2 : forall x, Y x -> R) ref r beta (delta : R) : law q ->
  0 < beta -> laws p1 -> laws p2 -> laws ref -> p1 ≪≪ ref -> p2 ≪≪ ref ->
  J_bq (tilts ref r beta) ref r beta - J_bq p1 ref r beta <= delta ->
  beta * KLq p2 (tilts ref r beta) - delta <= J_bq p1 ref r beta - J_bq p2 ref r beta.
Proof. exact (fun _ b0 => @Averages.avg_regularised_drop_suboptimal X Y q beta b0 p1 p2 ref r delta).
  Qed.

(** P1 (averaged). The gradient of the averaged loss carries q(x): 1/2 sum_x q(x)^2 ‖p_x - d_x‖^2 >=
    (q_min m/2) E_q KL(d‖p), with q_min <= q and m <= p. *)
Theorem P1_pl_sft_loss_averaged p d (m0 q_min : R) : laws p -> laws d -> 0 < m0 ->
  (forall x y, m0 <= p x y) ->
  0 <= q_min -> (forall x, q_min <= q x) ->
  q_min * m0 / 2 * KLq d p <= 1 / 2 * sum (fun x => q x ^ 2 * sum (fun y => (p x y - d x y) ^ 2)).
Proof. exact (@Averages.avg_pl_sft_loss X Y q p d m0 q_min). Qed.

(** J2 (averaged). J_b(p) - J_b(p_joint) <= lambda [CE(d,p) - CE(d,p_joint)] for every p, all four
    averaged. *)
Theorem J2_no_free_order_averaged p (joint : forall x, Y x -> R) d ref r (mu : X -> R) (lambda : R)
  beta :
  law q -> 0 < beta -> laws p -> laws joint -> laws d -> (forall x y, 0 < ref x y) ->
  (forall x y, 0 < joint x y) -> d ≪≪ p -> 0 <= lambda ->
  (forall x y, r x y - beta * ln (joint x y / ref x y) + lambda * d x y / joint x y = mu x) ->
  J_bq p ref r beta - J_bq joint ref r beta <= lambda * (Lq d p - Lq d joint).
Proof. exact (fun lq b0 => @Averages.avg_no_free_order X Y q lq beta b0 p joint d ref r mu lambda). Qed.

End Averaged.

(** ** Second chapter: what trainers converge to, and what it costs *)

From NonDecoupling Require Overpayment Verifiable Estimators Penalties Leashless Schedules.
From NonDecoupling Require Alternation BestOfN Groups GroupNormalised PerToken.

Section SecondChapter.
Variable Y : finType.
Implicit Types (p q d ref r g f theta : Y -> R) (beta s t m M c l mu : R) (A : Y -> bool).

(** S9. Overpayment: for any p and any l with 1 - l w > 0 on supp d, KL(d‖p) is the dual value of l (S5)
    and three terms: E_d[z - 1 - log z], l (J(p) - c)/(M - c), E_p[1_{d=0} (1 - l w)]. *)
Theorem S9_overpayment_identity d p r c M l : law d -> law p -> d ≪ p -> c < M ->
  (forall y, 0 < d y -> 0 < 1 - l * (r y - c) / (M - c)) ->
  let h := fun y => 1 - l * (r y - c) / (M - c) in
  let z := fun y => p y * h y / d y in
  KL d p - E d (fun y => ln (h y)) =
  E d (fun y => z y - 1 - ln (z y)) + l * (E p r - c) / (M - c) +
  E p (fun y => (if Req_EM_T (d y) 0 then 1 else 0) * h y).
Proof. exact (@Overpayment.overpayment Y d p r c M l). Qed.

(** S9. For M = max r and J(d) < c < M some l (that of S5) makes, for every p with J(p) = c, the
    middle term 0 and the others >= 0; p overpays nothing iff p (1 - l w) = d, iff no policy with at
    least that reward has a smaller KL(d‖.), that is iff p is a frontier policy. *)
Theorem S9_zero_iff_frontier d r c M y0 : law d -> (forall y, r y <= M) -> r y0 = M -> E d r < c ->
  c < M -> exists l, 0 <= l <= 1 /\ forall p, law p -> d ≪ p -> E p r = c ->
  let h := fun y => 1 - l * (r y - c) / (M - c) in
  let z := fun y => p y * h y / d y in
  let first := E d (fun y => z y - 1 - ln (z y)) in
  let last := E p (fun y => (if Req_EM_T (d y) 0 then 1 else 0) * h y) in
  KL d p - E d (fun y => ln (h y)) = first + last /\ 0 <= first /\ 0 <= last /\
  (first + last = 0 <-> forall y, p y * h y = d y) /\
  (first + last = 0 <-> forall p', law p' -> d ≪ p' -> c <= E p' r -> KL d p <= KL d p').
Proof. exact (@Overpayment.overpayment_frontier Y d r c M y0). Qed.

(** S10. What a run's logs prove: (J(p) - J(d))/beta - KL(p‖ref) = DeltaL(tilt) - KL(p‖tilt). *)
Theorem S10_identity d p ref r beta : law d -> law p -> law ref -> d ≪ ref -> p ≪ ref ->
  (E p r - E d r) / beta - KL p ref = CE d (tilt ref r beta) - CE d ref - KL p (tilt ref r beta).
Proof. exact (@Overpayment.run_proves Y d p ref r beta). Qed.

(** S10. So it is at most DeltaL(tilt), with equality at the tilt only. *)
Theorem S10_lower_bound d p ref r beta : law d -> law p -> law ref -> d ≪ ref -> p ≪ ref ->
  (E p r - E d r) / beta - KL p ref <= CE d (tilt ref r beta) - CE d ref /\
  ((E p r - E d r) / beta - KL p ref = CE d (tilt ref r beta) - CE d ref <->
   forall y, p y = tilt ref r beta y).
Proof. exact (@Overpayment.run_lower_bound Y d p ref r beta). Qed.

(** S10. In s = 1/beta every checkpoint is an affine minorant of DeltaL(tilt_s), met at p = tilt_s. *)
Theorem S10_affine_minorant d p ref r s : law d -> law p -> law ref -> d ≪ ref -> p ≪ ref ->
  s * (E p r - E d r) - KL p ref <= CE d (tilt_at ref r s) - CE d ref /\
  ((forall y, p y = tilt_at ref r s y) ->
   s * (E p r - E d r) - KL p ref = CE d (tilt_at ref r s) - CE d ref).
Proof. exact (@Overpayment.run_minorant Y d p ref r s). Qed.

(** S10. s -> DeltaL(tilt_s) is convex, for every d ≪ ref. *)
Theorem S10_convex d ref r s (u t : R) : law d -> law ref -> d ≪ ref -> 0 <= t <= 1 ->
  let f := fun s => CE d (tilt_at ref r s) - CE d ref in
  f ((1 - t) * s + t * u) <= (1 - t) * f s + t * f u.
Proof. exact (@Overpayment.loss_change_convex Y d ref r s u t). Qed.

(** S10. If J(p) - J(d) > beta KL(p‖ref), the exact optimum at beta raises the SFT loss. *)
Theorem S10_run_raises_loss d p ref r beta : law d -> law p -> law ref -> d ≪ ref -> p ≪ ref ->
  0 < beta -> beta * KL p ref < E p r - E d r -> CE d ref < CE d (tilt ref r beta).
Proof. exact (@Overpayment.run_raises_loss Y d p ref r beta). Qed.

(** V1. Verifiable rewards, r = 1 on A and 0 outside: in log-odds the tilt adds 1/beta to ref(A). *)
Theorem V1_logit A ref beta : law ref ->
  let r := fun y => if A y then 1 else 0 in
  let a := E ref r in let c := E (tilt ref r beta) r in
  0 < a < 1 -> 0 < c < 1 /\ ln (c / (1 - c)) = ln (a / (1 - a)) + / beta.
Proof. exact (@Verifiable.logit_tilt Y A ref beta). Qed.

(** V1. The beta that reaches the success rate c in (ref(A), 1). *)
Theorem V1_beta_for_target A ref c : law ref ->
  let r := fun y => if A y then 1 else 0 in
  let a := E ref r in
  0 < a -> a < c < 1 ->
  let beta := / (ln (c / (1 - c)) - ln (a / (1 - a))) in
  0 < beta /\ E (tilt ref r beta) r = c.
Proof. exact (@Verifiable.beta_for_target Y A ref c). Qed.

(** V1. With ref = d the tilt costs kl(ref(A), tilt(A)), and no policy with its success costs less. *)
Theorem V1_cost_is_price A d beta : law d ->
  let r := fun y => if A y then 1 else 0 in
  let a := E d r in let c := E (tilt d r beta) r in
  let kl := a * ln (a / c) + (1 - a) * ln ((1 - a) / (1 - c)) in
  0 < a < 1 -> 0 < beta ->
  CE d (tilt d r beta) - CE d d = kl /\
  (forall p, law p -> d ≪ p -> c <= E p r -> kl <= KL d p).
Proof. exact (@Verifiable.verifiable_cost Y A d beta). Qed.

(** V1. Chain rule: KL(p‖ref) = kl(p(A), ref(A)) + p(A) KL(p_A‖ref_A) + (1 - p(A)) KL of the conditional
    laws outside A. (If p(A) is 0 or 1, the term without a conditional law is 0.) *)
Theorem V1_chain_rule A p ref : law p -> law ref -> p ≪ ref ->
  let r := fun y => if A y then 1 else 0 in
  0 < E ref r < 1 ->
  let on := fun q y => if A y then q y / E q r else 0 in
  let off := fun q y => if A y then 0 else q y / (1 - E q r) in
  let c := E p r in let a := E ref r in
  KL p ref = c * ln (c / a) + (1 - c) * ln ((1 - c) / (1 - a)) +
             c * KL (on p) (on ref) + (1 - c) * KL (off p) (off ref).
Proof. exact (@Verifiable.KL_conditional Y A p ref). Qed.

(** V1. The least KL at success c = p(A) is kl(c, ref(A)), for unchanged conditional laws only. *)
Theorem V1_least_KL A p ref : law p -> law ref -> p ≪ ref ->
  let r := fun y => if A y then 1 else 0 in
  let c := E p r in let a := E ref r in
  let kl := c * ln (c / a) + (1 - c) * ln ((1 - c) / (1 - a)) in
  0 < a < 1 ->
  kl <= KL p ref /\
  (KL p ref = kl <-> forall y, p y = if A y then c / a * ref y else (1 - c) / (1 - a) * ref y).
Proof. exact (@Verifiable.least_KL_at_success Y A p ref). Qed.

(** V1. For every c in [0, 1] that policy exists. *)
Theorem V1_least_KL_attained A ref c : law ref ->
  let r := fun y => if A y then 1 else 0 in
  let a := E ref r in
  let q := fun y => if A y then c / a * ref y else (1 - c) / (1 - a) * ref y in
  0 < a < 1 -> 0 <= c <= 1 -> law q /\ E q r = c.
Proof. exact (@Verifiable.at_success_law Y A ref c). Qed.

(** V1. The tilt, where natural gradient ends, is the policy of least KL at its success rate. *)
Theorem V1_tilt_has_least_KL A ref beta y : law ref ->
  let r := fun y => if A y then 1 else 0 in
  let a := E ref r in
  0 < a < 1 ->
  let c := E (tilt ref r beta) r in
  tilt ref r beta y = if A y then c / a * ref y else (1 - c) / (1 - a) * ref y.
Proof. exact (@Verifiable.tilt_least_KL Y A ref beta y). Qed.

(** V1. pass@k rises at the exact optimum, at every prompt with success strictly between 0 and 1. *)
Theorem V1_pass_at_k A ref beta (k : nat) : law ref ->
  let r := fun y => if A y then 1 else 0 in
  0 < E ref r < 1 -> 0 < beta -> (0 < k)%nat ->
  1 - (1 - E ref r) ^ k < 1 - (1 - E (tilt ref r beta) r) ^ k.
Proof. exact (@Verifiable.pass_at_k_rises Y A ref beta k). Qed.

(** G1. Proxy and gold: d/ds E_{tilt_s} g = Cov_{tilt_s}(g, r). *)
Theorem G1_covariance ref r g s : law ref ->
  let t := tilt_at ref r s in
  is_derive (fun s => E (tilt_at ref r s) g) s (E t (fun y => (g y - E t g) * (r y - E t r))).
Proof. exact (@Verifiable.gold_derivative Y ref r g s). Qed.

(** G1. While the covariance is positive the gold reward rises: it can turn only where it vanishes. *)
Theorem G1_gold_rises ref r g (s s' : R) : law ref -> s < s' ->
  (forall u, s <= u <= s' ->
   let t := tilt_at ref r u in 0 < E t (fun y => (g y - E t g) * (r y - E t r))) ->
  E (tilt_at ref r s) g < E (tilt_at ref r s') g.
Proof. exact (@Verifiable.gold_rises Y ref r g s s'). Qed.

(** G1. Any p: J_g(p) - J_g(ref) >= J_r(p) - J_r(ref) - range(r - g) sqrt(KL(p‖ref)/2). *)
Theorem G1_gold_gain p ref r g m M : law p -> law ref -> p ≪ ref -> (forall y, m <= r y - g y <= M) ->
  E p r - E ref r - (M - m) * sqrt (KL p ref / 2) <= E p g - E ref g.
Proof. exact (@Verifiable.gold_gain Y p ref r g m M). Qed.

(** G1. Sharper: kl(E_p f, E_ref f) <= KL(p‖ref) for any f in [0, 1], such as (r - g - min)/range. *)
Theorem G1_sharper p ref f : law p -> law ref -> p ≪ ref -> (forall y, 0 <= f y <= 1) ->
  let c := E p f in let a := E ref f in
  0 < a < 1 -> c * ln (c / a) + (1 - c) * ln ((1 - c) / (1 - a)) <= KL p ref.
Proof. exact (@Verifiable.coin_kl_le_KL Y p ref f). Qed.

(** T1. Gradients are derivatives along the logits theta + eta g, for every direction g; g - E_p g is the
    score. Any f of u = log(p/ref): grad E_p f(u) = E_p[(f + f')(u) grad log p]. *)
Theorem T1_gradient_of_expectation theta g ref (f f' : R -> R) : inhabited Y -> (forall y, 0 < ref y) ->
  (forall x, is_derive f x (f' x)) ->
  let p := softmax theta in
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  is_derive (fun eta => E (p_at eta) (fun y => f (ln (p_at eta y / ref y)))) 0
    (E p (fun y => (f (ln (p y / ref y)) + f' (ln (p y / ref y))) * (g y - E p g))).
Proof. exact (fun inh pos => @Estimators.expectation_gradient Y ref theta g inh pos f f'). Qed.

(** T1. k1 = u in the loss (differentiated at held samples y, then averaged) trains nothing. *)
Theorem T1_k1_in_loss theta g ref : inhabited Y -> (forall y, 0 < ref y) ->
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  exists G : Y -> R, (forall y, is_derive (fun eta => ln (p_at eta y / ref y)) 0 (G y)) /\
  E (softmax theta) G = 0.
Proof. exact (@Estimators.k1_in_loss Y ref theta g). Qed.

(** T1. k2 = u^2/2 in the loss trains KL(p‖ref). *)
Theorem T1_k2_in_loss theta g ref : inhabited Y -> (forall y, 0 < ref y) ->
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  exists G : Y -> R, (forall y, is_derive (fun eta => ln (p_at eta y / ref y) ^ 2 / 2) 0 (G y)) /\
  is_derive (fun eta => KL (p_at eta) ref) 0 (E (softmax theta) G).
Proof. exact (@Estimators.k2_in_loss Y ref theta g). Qed.

(** T1. k3 = e^{-u} - 1 + u in the loss trains KL(ref‖p). *)
Theorem T1_k3_in_loss theta g ref : inhabited Y -> (forall y, 0 < ref y) ->
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  exists G : Y -> R,
  (forall y, is_derive (fun eta => let u := ln (p_at eta y / ref y) in exp (- u) - 1 + u) 0 (G y)) /\
  is_derive (fun eta => KL ref (p_at eta)) 0 (E (softmax theta) G).
Proof. exact (@Estimators.k3_in_loss Y ref theta g). Qed.

(** T1. In the reward, E_p[k grad log p]: k1 trains KL(p‖ref). *)
Theorem T1_k1_in_reward theta g ref : inhabited Y -> (forall y, 0 < ref y) ->
  let p := softmax theta in
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  is_derive (fun eta => KL (p_at eta) ref) 0 (E p (fun y => ln (p y / ref y) * (g y - E p g))).
Proof. exact (@Estimators.k1_in_reward Y ref theta g). Qed.

(** T1. In the reward, k2 trains E_p[u^2/2 - u]. *)
Theorem T1_k2_in_reward theta g ref : inhabited Y -> (forall y, 0 < ref y) ->
  let p := softmax theta in
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  is_derive (fun eta => E (p_at eta) (fun y => let u := ln (p_at eta y / ref y) in u ^ 2 / 2 - u)) 0
    (E p (fun y => ln (p y / ref y) ^ 2 / 2 * (g y - E p g))).
Proof. exact (@Estimators.k2_in_reward Y ref theta g). Qed.

(** T1. In the reward, k3 trains KL(p‖ref) - KL(ref‖p). *)
Theorem T1_k3_in_reward theta g ref : inhabited Y -> (forall y, 0 < ref y) ->
  let p := softmax theta in
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  is_derive (fun eta => KL (p_at eta) ref - KL ref (p_at eta)) 0
    (E p (fun y => (exp (- ln (p y / ref y)) - 1 + ln (p y / ref y)) * (g y - E p g))).
Proof. exact (@Estimators.k3_in_reward Y ref theta g). Qed.

(** T1. Times the differentiable ratio, any k = f(u) trains E_p[k]. *)
Theorem T1_any_k_times_ratio theta g ref (f f' : R -> R) : inhabited Y -> (forall y, 0 < ref y) ->
  (forall x, is_derive f x (f' x)) ->
  let p := softmax theta in
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  exists G : Y -> R,
  (forall y, is_derive (fun eta => p_at eta y / p y * f (ln (p_at eta y / ref y))) 0 (G y)) /\
  is_derive (fun eta => E (p_at eta) (fun y => f (ln (p_at eta y / ref y)))) 0 (E p G).
Proof. exact (fun inh pos => @Estimators.any_k_times_ratio Y ref theta g inh pos f f'). Qed.

(** T2. k3 in the loss, O(p) = J(p) - beta KL(ref‖p): a mu > max r makes p* = beta ref/(mu - r) a law. *)
Theorem T2_mu_exists ref r beta : law ref -> (forall y, 0 < ref y) -> 0 < beta ->
  exists mu, (forall y, r y < mu) /\ sum (fun y => beta * ref y / (mu - r y)) = 1.
Proof. exact (@Penalties.forward_mu_exists Y ref r beta). Qed.

(** T2. J(p* ) = mu - beta, and O(p* ) - O(p) = beta E_ref[z - 1 - log z], z = p/p*. *)
Theorem T2_identity p ref r beta mu : law p -> law ref -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta -> (forall y, r y < mu) ->
  let opt := fun y => beta * ref y / (mu - r y) in
  sum opt = 1 ->
  let z := fun y => p y / opt y in
  E opt r = mu - beta /\
  (E opt r - beta * KL ref opt) - (E p r - beta * KL ref p) = beta * E ref (fun y => z y - 1 - ln (z y)).
Proof. exact (fun lp lr pos pos' b0 rm tot => conj (Penalties.forward_optimum_reward lr rm tot)
  (Penalties.forward_gap lp lr pos pos' b0 rm tot)). Qed.

(** T2. p* is the only maximiser of O among the full-support policies. *)
Theorem T2_unique_maximiser p ref r beta mu : law p -> law ref -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta -> (forall y, r y < mu) ->
  let opt := fun y => beta * ref y / (mu - r y) in
  sum opt = 1 ->
  E p r - beta * KL ref p <= E opt r - beta * KL ref opt /\
  (E p r - beta * KL ref p = E opt r - beta * KL ref opt <-> forall y, p y = opt y).
Proof. exact (@Penalties.forward_unique Y p ref r beta mu). Qed.

(** T2. With ref = d (full support) it pays exactly the price of its reward, alone. *)
Theorem T2_on_the_frontier d p r beta mu : law p -> law d -> d ≪ p -> (forall y, 0 < d y) -> 0 < beta ->
  (forall y, r y < mu) ->
  let opt := fun y => beta * d y / (mu - r y) in
  sum opt = 1 -> E opt r <= E p r ->
  KL d opt <= KL d p /\ (KL d p = KL d opt -> forall y, p y = opt y).
Proof. exact (@Penalties.forward_optimum_on_frontier Y d p r beta mu). Qed.

(** T2. Every reward c in (J(d), max r) is that of some beta, with mu = c + beta. *)
Theorem T2_every_reward d r c y0 : law d -> (forall y, 0 < d y) -> (forall y, r y <= r y0) ->
  E d r < c < r y0 -> exists beta, 0 < beta /\ (forall y, r y < c + beta) /\
  sum (fun y => beta * d y / (c + beta - r y)) = 1 /\
  E (fun y => beta * d y / (c + beta - r y)) r = c.
Proof. exact (@Penalties.forward_every_reward Y d r c y0). Qed.

(** T2. k3 in the reward trains J - beta [KL(p‖ref) - KL(ref‖p)] (T1): unbounded for every beta and every
    reward as soon as there are two responses. *)
Theorem T2_k3_in_reward_unbounded ref r beta (y0 y1 : Y) (B : R) : law ref -> (forall y, 0 < ref y) ->
  0 < beta -> y0 != y1 ->
  exists p, law p /\ (forall y, 0 < p y) /\ B < E p r - beta * (KL p ref - KL ref p).
Proof. exact (@Penalties.k3_in_reward_unbounded Y ref r beta y0 y1 B). Qed.

(** T2. At p = ref that penalty has zero gradient and zero Hessian, in every direction of the logits. *)
Theorem T2_k3_in_reward_flat theta g : inhabited Y ->
  let ref := softmax theta in
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  exists D : R -> R,
  (forall eta, is_derive (fun eta => KL (p_at eta) ref - KL ref (p_at eta)) eta (D eta)) /\
  D 0 = 0 /\ is_derive D 0 0.
Proof. exact (@Penalties.k3_in_reward_flat Y theta g). Qed.

(** T10. Policy gradient without a leash, theta' = grad J. The path solves the flow: logits
    -log(1/ref + sigma - tau r) with sum log(1 + ref (sigma - tau r)) = 0, in the clock with
    tau' = 1/(sum of their exponentials). *)
Theorem T10_path_solves_flow ref r (sigma tau : R -> R) (a b t : R) y : (forall y, 0 < ref y) ->
  a < t < b ->
  (forall u, a < u < b -> (forall z, 0 < / ref z + (sigma u - tau u * r z)) /\
     sum (fun z => ln (1 + ref z * (sigma u - tau u * r z))) = 0) ->
  let theta := fun u z => - ln (/ ref z + (sigma u - tau u * r z)) in
  let p := softmax (theta t) in
  ex_derive sigma t -> is_derive tau t (/ sum (fun z => exp (theta t z))) ->
  is_derive (fun u => theta u y) t (p y * (r y - E p r)).
Proof. exact (fun pos => @Leashless.path_solves_flow Y ref r pos sigma tau a b t y). Qed.

(** T10. Conversely, every solution from theta_0 = log ref is on that path at all times. *)
Theorem T10_flow_on_path ref r (theta : R -> Y -> R) (a b t : R) : (forall y, 0 < ref y) ->
  a < 0 < b -> a < t < b -> (forall y, theta 0 y = ln (ref y)) ->
  (forall u y, a < u < b -> let p := softmax (theta u) in
   is_derive (fun u => theta u y) u (p y * (r y - E p r))) ->
  exists sigma tau : R, let w := fun y => / ref y + (sigma - tau * r y) in
    (forall y, 0 < w y) /\ sum (fun y => ln (1 + ref y * (sigma - tau * r y))) = 0 /\
    (forall y, theta t y = - ln (w y)) /\
    (forall y, softmax (theta t) y = / w y / sum (fun z => / w z)).
Proof. exact (fun pos => @Leashless.flow_on_path Y ref r pos theta a b t). Qed.

(** T10. For each tau at most one sigma satisfies the constraint: its left side increases in sigma. *)
Theorem T10_sigma_unique ref r (sigma sigma' tau : R) : (forall y, 0 < ref y) -> inhabited Y ->
  sigma < sigma' -> (forall y, 0 < / ref y + (sigma - tau * r y)) ->
  sum (fun y => ln (1 + ref y * (sigma - tau * r y))) <
  sum (fun y => ln (1 + ref y * (sigma' - tau * r y))).
Proof. exact (fun pos => @Leashless.path_sigma_unique Y ref r pos sigma sigma' tau). Qed.

(** T10. From a uniform ref every point of the path with tau > 0 is on S5's frontier. *)
Theorem T10_uniform_ref_frontier ref r (sigma tau k : R) p' : (forall y, 0 < ref y) -> law ref ->
  (forall y, ref y = k) -> 0 < tau -> (forall y, 0 < / ref y + (sigma - tau * r y)) ->
  let w := fun y => / ref y + (sigma - tau * r y) in
  let p := fun y => / w y / sum (fun z => / w z) in
  law p' -> ref ≪ p' -> E p r <= E p' r -> KL ref p <= KL ref p'.
Proof. exact (fun pos => @Leashless.path_from_uniform Y ref r pos sigma tau k p'). Qed.

(** T11. A verifier with false-positive rate f0 and false-negative rate f1: the optimum for what it pays
    on average is the tilt at beta/(1 - f0 - f1). *)
Theorem T11_noisy_verifier ref r beta (f0 f1 : R) y : law ref -> 0 < beta -> f0 + f1 < 1 ->
  let seen := fun z => r z * (1 - f1) + (1 - r z) * f0 in
  tilt ref seen beta y = tilt ref r (beta / (1 - f0 - f1)) y.
Proof. exact (@Schedules.noisy_verifier Y ref r beta f0 f1 y). Qed.

(** T11. Entropy bonus: J_b + alpha H has the optimum prop. to ref^{beta/(alpha+beta)} e^{r/(alpha+beta)},
    and any p is (alpha + beta) KL(p‖optimum) below it. *)
Theorem T11_entropy_bonus p ref r beta (alpha : R) : law p -> law ref -> (forall y, 0 < ref y) ->
  0 < alpha + beta ->
  let w := fun y => Rpower (ref y) (beta / (alpha + beta)) * exp (r y / (alpha + beta)) in
  let opt := fun y => w y / sum w in
  let F := fun p => J_b p ref r beta + alpha * CE p p in
  law opt /\ F opt - F p = (alpha + beta) * KL p opt.
Proof. exact (@Schedules.entropy_bonus Y p ref r beta alpha). Qed.

(** T11. With ref = d, S2 prices that optimum with the reward r - alpha log d at alpha + beta. *)
Theorem T11_entropy_bonus_cost d r beta (alpha : R) : law d -> (forall y, 0 < d y) -> 0 < alpha + beta ->
  let w := fun y => Rpower (d y) (beta / (alpha + beta)) * exp (r y / (alpha + beta)) in
  let opt := fun y => w y / sum w in
  let r' := fun y => r y - alpha * ln (d y) in
  CE d opt - CE d d = ln (Z d r' (alpha + beta)) - E d r' / (alpha + beta).
Proof. exact (@Schedules.entropy_bonus_cost Y d r beta alpha). Qed.

(** T5. Tilts compose: tilt_s(tilt_t(p)) = tilt_{s+t}(p). *)
Theorem T5_tilts_compose p r s t y : law p ->
  tilt_at (tilt_at p r t) r s y = tilt_at p r (s + t) y.
Proof. exact (@Schedules.tilts_compose Y p r s t y). Qed.

(** T5. k runs in a row at beta, the reference reset between, are one run at beta/k. *)
Theorem T5_runs_in_a_row ref r beta (k : nat) y : law ref -> 0 < beta -> (0 < k)%nat ->
  iter k (fun p => tilt p r beta) ref y = tilt ref r (beta / INR k) y.
Proof. exact (@Schedules.tilts_in_a_row Y ref r beta k y). Qed.

(** T5. ref^{1-v} tilt^v, normalised, is the tilt at beta/v. *)
Theorem T5_geometric_mixture ref r beta (v : R) y : law ref -> (forall y, 0 < ref y) -> beta <> 0 ->
  v <> 0 ->
  let w := fun z => Rpower (ref z) (1 - v) * Rpower (tilt ref r beta z) v in
  w y / sum w = tilt ref r (beta / v) y.
Proof. exact (@Schedules.geometric_mixture_is_tilt Y ref r beta v y). Qed.

(** T5. Sampling sequences at temperature T is the tilt of p by log p at s = 1/T - 1. *)
Theorem T5_temperature p (T : R) y : law p -> (forall y, 0 < p y) ->
  let w := fun z => Rpower (p z) (/ T) in
  w y / sum w = tilt_at p (fun z => ln (p z)) (/ T - 1) y.
Proof. exact (@Schedules.temperature_is_tilt Y p T y). Qed.

(** T6. (a) Logit form. A cycle is RL for time s (p -> tilt_s(p)), then p -> p^{1-eta} d^eta, normalised:
    from any full-support p the log-odds errors against tilt_{s(1-eta)/eta}(d) are exactly (1-eta)^n of
    what they were after n cycles. *)
Theorem T6_logit_contraction d r s (eta : R) p (n : nat) y z : law p -> (forall y, 0 < p y) -> law d ->
  (forall y, 0 < d y) -> 0 < eta ->
  let cycle := fun p y =>
    let w := fun z => Rpower (tilt_at p r s z) (1 - eta) * Rpower (d z) eta in w y / sum w in
  let lim := tilt_at d r (s * (1 - eta) / eta) in
  let pn := iter n cycle p in
  ln (pn y / lim y) - ln (pn z / lim z) = (1 - eta) ^ n * (ln (p y / lim y) - ln (p z / lim z)).
Proof. exact (@Alternation.logit_alternation Y d r s eta p n y z). Qed.

(** T6. (a) That limit after SFT stays in place, and after RL it is tilt_{s/eta}(d). *)
Theorem T6_logit_limits d r s (eta : R) y : law d -> (forall y, 0 < d y) -> 0 < eta ->
  let cycle := fun p y =>
    let w := fun z => Rpower (tilt_at p r s z) (1 - eta) * Rpower (d z) eta in w y / sum w in
  let lim := tilt_at d r (s * (1 - eta) / eta) in
  cycle lim y = lim y /\ tilt_at lim r s y = tilt_at d r (s / eta) y.
Proof. exact (@Alternation.logit_alternation_limits Y d r s eta y). Qed.

(** T6. (b) Mixture form. A cycle is p -> (1-eta) tilt_s(p) + eta d; p stays in place iff p =
    eta d lambda/(lambda - (1-eta) e^{sr}) with lambda = E_p e^{sr} > (1-eta) max e^{sr}. *)
Theorem T6_mixture_fixed_point d r s (eta : R) p : law d -> (forall y, 0 < d y) -> law p -> 0 < eta < 1 ->
  let lambda := E p (fun z => exp (s * r z)) in
  (forall y, (1 - eta) * tilt_at p r s y + eta * d y = p y) <->
  (forall y, (1 - eta) * exp (s * r y) < lambda) /\
  (forall y, p y = eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y))).
Proof. exact (@Alternation.mixture_fixed_point Y d r s eta p). Qed.

(** T6. (b) A lambda > (1-eta) max e^{sr} that makes this a law exists. *)
Theorem T6_mixture_lambda_exists d r s (eta : R) : law d -> (forall y, 0 < d y) -> 0 < eta < 1 ->
  exists lambda : R, (forall y, (1 - eta) * exp (s * r y) < lambda) /\
    sum (fun y => eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y))) = 1.
Proof. exact (@Alternation.mixture_lambda_exists Y d r s eta). Qed.

(** T6. (b) It is the only one: the sum strictly decreases in lambda. *)
Theorem T6_mixture_lambda_unique d r s (eta lambda lambda' : R) : law d -> 0 < eta < 1 ->
  (forall y, (1 - eta) * exp (s * r y) < lambda) -> lambda < lambda' ->
  sum (fun y => eta * d y * lambda' / (lambda' - (1 - eta) * exp (s * r y))) <
  sum (fun y => eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y))).
Proof. exact (@Alternation.mixture_lambda_unique Y d r s eta lambda lambda'). Qed.

(** T6. (b) That law has E_p e^{sr} = lambda, stays in place, is (eta/lambda) d/(e^{-sr} - (1-eta)/lambda)
    after RL, and is S5's frontier policy of the reward e^{sr}. *)
Theorem T6_mixture_limit d r s (eta lambda : R) : law d -> (forall y, 0 < d y) -> 0 < eta < 1 ->
  (forall y, (1 - eta) * exp (s * r y) < lambda) ->
  let p := fun y => eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y)) in
  sum p = 1 ->
  law p /\ E p (fun z => exp (s * r z)) = lambda /\
  (forall y, (1 - eta) * tilt_at p r s y + eta * d y = p y) /\
  (forall y, tilt_at p r s y = eta / lambda * d y / (exp (- (s * r y)) - (1 - eta) / lambda)) /\
  (forall p', law p' -> d ≪ p' -> lambda <= E p' (fun z => exp (s * r z)) -> KL d p <= KL d p').
Proof. exact (@Alternation.mixture_limit_facts Y d r s eta lambda). Qed.

(** T6. (b) Rate: with v = p/limit, max v/min v - 1 (here: any K with v(y) <= (1 + K) v(z)) shrinks by
    rho = (1-eta) max e^{sr}/lambda a cycle. (max v - min v need not, before p is near the limit.) *)
Theorem T6_mixture_rate d r s (eta lambda : R) p M (K : R) : law d -> (forall y, 0 < d y) -> 0 < eta < 1 ->
  (forall y, (1 - eta) * exp (s * r y) < lambda) ->
  let lim := fun y => eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y)) in
  sum lim = 1 ->
  (forall y, exp (s * r y) <= M) -> (1 - eta) * M < lambda -> law p -> (forall y, 0 < p y) ->
  let next := fun y => (1 - eta) * tilt_at p r s y + eta * d y in
  (forall y z, p y / lim y <= (1 + K) * (p z / lim z)) ->
  forall y z, next y / lim y <= (1 + (1 - eta) * M / lambda * K) * (next z / lim z).
Proof. exact (@Alternation.mixture_rate Y d r s eta lambda p M K). Qed.

(** T6. (b) With M = max e^{sr}: rho <= (1-eta)/(1 - eta + eta d(argmax)). *)
Theorem T6_mixture_rate_bound d r s (eta lambda : R) M : law d -> (forall y, 0 < d y) -> 0 < eta < 1 ->
  (forall y, (1 - eta) * exp (s * r y) < lambda) ->
  sum (fun y => eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y))) = 1 ->
  (forall y, exp (s * r y) <= M) -> 0 < M -> (1 - eta) * M < lambda ->
  (1 - eta) * M / lambda <=
  (1 - eta) / (1 - eta + eta * sum (fun y => if Req_EM_T (exp (s * r y)) M then d y else 0)).
Proof. exact (@Alternation.mixture_rate_bound Y d r s eta lambda M). Qed.

(** T8. Replay m = (1-v) d + v p: J(m) - J(d) = v (J(p) - J(d)). *)
Theorem T8_replay_reward d p r (v : R) :
  E (fun y => (1 - v) * d y + v * p y) r - E d r = v * (E p r - E d r).
Proof. exact (@Schedules.replay_reward Y d p r v). Qed.

(** T8. KL(d‖m) <= -log(1 - v + v e^{-KL(d‖p)}), itself at most -log(1-v) and v KL(d‖p); equality iff v is
    0 or 1 or p = d on supp d up to a factor. *)
Theorem T8_replay_bound d p (v : R) : law d -> law p -> d ≪ p -> 0 <= v <= 1 ->
  let m := fun y => (1 - v) * d y + v * p y in
  let bound := - ln (1 - v + v * exp (- KL d p)) in
  KL d m <= bound /\ (v < 1 -> bound <= - ln (1 - v)) /\ bound <= v * KL d p /\
  (KL d m = bound <-> v = 0 \/ v = 1 \/ forall y z, 0 < d y -> 0 < d z -> p y / d y = p z / d z).
Proof. exact (@Schedules.replay_bound Y d p v). Qed.

(** T9. Weighted SFT: -E_d[stopgrad(p^a) log p] has the gradient of -sum d p^a/a (for a = 1, that of
    -E_p[d]: policy gradient with the reward d). *)
Theorem T9_gradient d theta g (a : R) : inhabited Y -> a <> 0 ->
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  exists G : R,
  is_derive (fun eta => - sum (fun y => d y * Rpower (softmax theta y) a * ln (p_at eta y))) 0 G /\
  is_derive (fun eta => - sum (fun y => d y * Rpower (p_at eta y) a / a)) 0 G.
Proof. exact (@Schedules.weighted_sft_gradient Y d theta g a). Qed.

(** T9. For a < 1, a != 0 the only optimum among full-support policies is d^{1/(1-a)}, normalised: the tilt
    of d by log d at s = a/(1-a). It costs log sum d^{1/(1-a)} + a/(1-a) H(d). (d has full support; for
    a >= 1 only the gradient above is proved.) *)
Theorem T9_optimum d p (a : R) : law d -> law p -> (forall y, 0 < d y) -> (forall y, 0 < p y) ->
  a < 1 -> a <> 0 ->
  let w := fun y => Rpower (d y) (/ (1 - a)) in
  let opt := fun y => w y / sum w in
  let O := fun p => - sum (fun y => d y * Rpower (p y) a / a) in
  (forall y, opt y = tilt_at d (fun y => ln (d y)) (a / (1 - a)) y) /\
  O opt <= O p /\ (O p = O opt -> forall y, p y = opt y) /\
  CE d opt - CE d d = ln (sum w) + a / (1 - a) * CE d d.
Proof. exact (@Schedules.weighted_sft_optimum Y d p a). Qed.

(** T9. SFT on data reweighted by f > 0 ends at d f/E_d f, alone. (f = e^{r/beta}, AWR: the tilt.) *)
Theorem T9_reweighted_data d f p : law d -> (forall y, 0 < f y) -> law p -> d ≪ p ->
  let opt := fun y => d y * f y / E d f in
  let L := fun p => - E d (fun y => f y * ln (p y)) in
  law opt /\ L opt <= L p /\ (L p = L opt <-> forall y, p y = opt y).
Proof. exact (@Schedules.reweighted_sft Y d f p). Qed.

(** T9. The weights beta/(mu - r) end on the frontier: at T2's policy. *)
Theorem T9_frontier_weights d r beta mu y : law d -> 0 < beta -> (forall y, r y < mu) ->
  sum (fun y => beta * d y / (mu - r y)) = 1 ->
  d y * (beta / (mu - r y)) / E d (fun z => beta / (mu - r z)) = beta * d y / (mu - r y).
Proof. exact (@Schedules.frontier_weights Y d r beta mu y). Qed.

(** T9. Verifiable rewards: filtered SFT with replay, (1-v) d + v d_A, is the tilt with success c =
    (1-v) a + v, 1/beta = logit c - logit a, a = d(A). (So the target c needs v = (c-a)/(1-a).) *)
Theorem T9_filtered_sft_is_tilt A d (v : R) y : law d ->
  let r := fun y => if A y then 1 else 0 in
  0 < E d r < 1 -> 0 < v < 1 ->
  let a := E d r in let c := (1 - v) * a + v in
  let beta := / (ln (c / (1 - c)) - ln (a / (1 - a))) in
  0 < beta /\ (1 - v) * d y + v * (if A y then d y / a else 0) = tilt d r beta y.
Proof. exact (@Schedules.filtered_sft_is_tilt Y A d v y). Qed.

(** T1. Baselines in a group of G independent draws: with the mean of the other G - 1 rewards the expected
    gradient is E_p[r S] (S a score, E_p S = 0), with the mean of all G it is (G-1)/G of that; a penalty in
    the reward scales alike. [draws p G F] is the expectation of F over G draws. *)
Theorem T1_baselines p r (S : Y -> R) (G : nat) : law p -> E p S = 0 -> (1 < G)%nat ->
  let draws := fix draws (p : Y -> R) (n : nat) (F : list Y -> R) {struct n} : R :=
    if n is m.+1 then E p (fun y => draws p m (fun l : list Y => F (y :: l))) else F nil in
  let total := fun (f : Y -> R) (l : list Y) => \big[Rplus/0]_(y <- l) f y in
  draws p G (fun l : list Y =>
    total (fun y => (r y - (total r l - r y) / (INR G - 1)) * S y) l / INR G) = E p (fun y => r y * S y) /\
  draws p G (fun l : list Y => total (fun y => (r y - total r l / INR G) * S y) l / INR G) =
  (INR G - 1) / INR G * E p (fun y => r y * S y).
Proof. exact (@Groups.baselines Y p r S G). Qed.

(** T4. Binary reward, groups of G, advantages (r - m) phi(K) with K successes and m = K/G (phi = 1/(sd + e)):
    the expected gradient is grad c = E_p[1_A S] times E[m(1-m) phi(K)]/(c(1-c)), K ~ Bin(G, c). *)
Theorem T4_expected_gradient A p (S : Y -> R) (G : nat) (phi : nat -> R) : law p -> E p S = 0 ->
  (0 < G)%nat ->
  let r := fun y => if A y then 1 else 0 in
  let c := E p r in
  0 < c < 1 ->
  let draws := fix draws (p : Y -> R) (n : nat) (F : list Y -> R) {struct n} : R :=
    if n is m.+1 then E p (fun y => draws p m (fun l : list Y => F (y :: l))) else F nil in
  draws p G (fun l : list Y => \big[Rplus/0]_(y <- l)
    ((r y - INR (count A l) / INR G) * phi (count A l) * S y) / INR G) =
  sum (fun k : ordinal_finType G.+1 => INR (binomial.binomial G k) * c ^ k * (1 - c) ^ (G - k) *
    (INR k / INR G * (1 - INR k / INR G) * phi k)) / (c * (1 - c)) * E p (fun y => r y * S y).
Proof. exact (@Groups.group_gradient Y A p S G phi). Qed.

(** T4. Stationary with the reverse leash: h grad J = beta grad KL(p‖ref), in every direction g of the
    logits, iff p is the tilt at beta/h. (With r = 1_A and h = h_G(p(A)), V1 gives logit c = logit a + h/beta
    and unchanged conditional laws.) *)
Theorem T4_stationary p ref r beta (h : R) : law p -> law ref -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta -> 0 < h ->
  (forall g, h * E p (fun y => r y * (g y - E p g)) =
             beta * E p (fun y => ln (p y / ref y) * (g y - E p g))) <->
  (forall y, p y = tilt ref r (beta / h) y).
Proof. exact (@GroupNormalised.stationary_iff_tilt Y p ref r beta h). Qed.

(** T2. At equal reward the tilt pays more than that frontier policy iff r has three levels (d has full
    support). *)
Theorem T2_tilt_pays_more_iff d r beta (beta' : R) mu : law d -> (forall y, 0 < d y) -> 0 < beta ->
  0 < beta' -> (forall y, r y < mu) ->
  let opt := fun y => beta * d y / (mu - r y) in
  sum opt = 1 -> E (tilt d r beta') r = E opt r ->
  KL d opt < KL d (tilt d r beta') <-> exists y1 y2 y3, r y1 < r y2 < r y3.
Proof. exact (@Penalties.tilt_pays_more_iff Y d r beta beta' mu). Qed.

(** T2. k3 in the reward: an interior local maximum has at most one response below ref. Near a policy with
    two there is a better one. *)
Theorem T2_k3_in_reward_local_maximum p ref r beta (i j : Y) (delta : R) : law p -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta -> i != j -> p i < ref i -> p j < ref j -> 0 < delta ->
  exists q, law q /\ (forall y, 0 < q y) /\ (forall y, Rabs (q y - p y) < delta) /\
  E p r - beta * (KL p ref - KL ref p) < E q r - beta * (KL q ref - KL ref q).
Proof. exact (@Penalties.k3_in_reward_local_max Y p ref r beta i j delta). Qed.

(** T6. (b) So n cycles from p bring every probability within a factor 1 + rho^n K of the limit. *)
Theorem T6_mixture_converges d r s (eta lambda : R) p M (K : R) (n : nat) : law d -> (forall y, 0 < d y) ->
  0 < eta < 1 -> (forall y, (1 - eta) * exp (s * r y) < lambda) ->
  let lim := fun y => eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y)) in
  sum lim = 1 ->
  (forall y, exp (s * r y) <= M) -> (1 - eta) * M < lambda -> law p -> (forall y, 0 < p y) ->
  let pn := iter n (fun p y => (1 - eta) * tilt_at p r s y + eta * d y) p in
  let bound := 1 + ((1 - eta) * M / lambda) ^ n * K in
  (forall y z, p y / lim y <= (1 + K) * (p z / lim z)) ->
  forall y, pn y <= bound * lim y /\ lim y <= bound * pn y.
Proof. exact (@Alternation.mixture_converges Y d r s eta lambda p M K n). Qed.

(** S9. For 0 <= l <= 1, max r <= M and c <= J(p) none of the three terms is negative. *)
Theorem S9_terms_nonnegative d p r c M l : law d -> law p -> d ≪ p -> c < M -> (forall y, r y <= M) ->
  0 <= l <= 1 -> c <= E p r -> (forall y, 0 < d y -> 0 < 1 - l * (r y - c) / (M - c)) ->
  let h := fun y => 1 - l * (r y - c) / (M - c) in
  let z := fun y => p y * h y / d y in
  0 <= E d (fun y => z y - 1 - ln (z y)) /\ 0 <= l * (E p r - c) / (M - c) /\
  0 <= E p (fun y => (if Req_EM_T (d y) 0 then 1 else 0) * h y).
Proof. exact (@Overpayment.overpayment_terms_ge0 Y d p r c M l). Qed.

(** T10. For every tau some sigma satisfies the constraint. *)
Theorem T10_sigma_exists ref r (tau : R) : (forall y, 0 < ref y) -> inhabited Y ->
  exists sigma : R, (forall y, 0 < / ref y + (sigma - tau * r y)) /\
  sum (fun y => ln (1 + ref y * (sigma - tau * r y))) = 0.
Proof. exact (fun pos => @Leashless.path_sigma_exists Y ref r pos tau). Qed.

(** T6. The Fisher-natural gradient flows p' = p (phi - E_p phi), phi the derivative of the objective in p.
    RL (phi = r) for time s moves p to tilt_s(p). *)
Theorem T6_rl_flow p r s y : law p ->
  is_derive (fun s => tilt_at p r s y) s (tilt_at p r s y * (r y - E (tilt_at p r s) r)).
Proof. exact (@Alternation.rl_flow Y p r s y). Qed.

(** T6. SFT on the cross entropy (phi = d/p) for time t moves p to (1-eta) p + eta d, eta = 1 - e^{-t}. *)
Theorem T6_sft_flow p d t y : law p -> (forall y, 0 < p y) -> law d -> (forall y, 0 < d y) -> 0 <= t ->
  let pt := fun t y => exp (- t) * p y + (1 - exp (- t)) * d y in
  is_derive (fun t => pt t y) t (pt t y * (d y / pt t y - E (pt t) (fun z => d z / pt t z))).
Proof. exact (@Alternation.sft_flow Y p d t y). Qed.

(** T6. SFT on KL(p‖d) (phi = -log(p/d)) moves it to p^{1-eta} d^eta = d e^{(1-eta) log(p/d)}, normalised. *)
Theorem T6_reverse_sft_flow p d t y : law d -> (forall y, 0 < d y) ->
  let w := fun t z => d z * exp (exp (- t) * ln (p z / d z)) in
  let pt := fun t z => w t z / sum (w t) in
  let u := fun z => ln (pt t z / d z) in
  is_derive (fun t => pt t y) t (- (pt t y * (u y - E (pt t) u))).
Proof. exact (@Alternation.reverse_sft_flow Y p d t y). Qed.

End SecondChapter.

(** S9 (averaged). One nu for all prompts and a mu_x > nu r on supp d_x for each: E_q KL(d‖p) is the dual
    value nu c + 1 + E_q[E_d log(mu - nu r) - mu] and the three terms. *)
Theorem S9_overpayment_identity_averaged (X : finType) (Y : X -> finType) (q : X -> R)
  (d p r : forall x, Y x -> R) (mu : X -> R) (nu c : R) : law q -> (forall x, law (d x)) ->
  (forall x, law (p x)) -> (forall x, d x ≪ p x) ->
  (forall x y, 0 < d x y -> 0 < mu x - nu * r x y) ->
  let z := fun x y => p x y * (mu x - nu * r x y) / d x y in
  E q (fun x => KL (d x) (p x)) -
    (nu * c + 1 + E q (fun x => E (d x) (fun y => ln (mu x - nu * r x y)) - mu x)) =
  E q (fun x => E (d x) (fun y => z x y - 1 - ln (z x y))) +
  nu * (E q (fun x => E (p x) (r x)) - c) +
  E q (fun x => E (p x) (fun y => (if Req_EM_T (d x y) 0 then 1 else 0) * (mu x - nu * r x y))).
Proof. exact (@Overpayment.avg_overpayment X Y q d p r mu nu c). Qed.

(** R9. Refuted: "0 < a <= KL(p_SFT‖p_RL) <= A implies J(p_SFT) <= J(p_RL) - C, C > 0". Constant reward:
    p_RL = (1/2, 1/2) is the RL optimum, p_SFT = (3/4, 1/4), and nothing is lost. *)
Theorem R9_constant_reward :
  let p_rl := fun b : bool_finType => if b then 1 / 2 else 1 - 1 / 2 in
  let p_sft := fun b : bool_finType => if b then 3 / 4 else 1 - 3 / 4 in
  let r := fun _ : bool_finType => 0 in
  law p_rl /\ law p_sft /\ 0 < KL p_sft p_rl /\ (forall b, tilt p_rl r 1 b = p_rl b) /\
  E p_sft r = E p_rl r.
Proof. exact Overpayment.refuted_constant. Qed.

(** R9. Refuted with a non-constant reward: from ref = (3/4, 1/4), r = (0, 1), e^{1/beta} = 3 the RL
    optimum is (1/2, 1/2), and SFT to d = (1/4, 3/4) raises the reward by 1/4. *)
Theorem R9_reward_rises :
  let ref := fun b : bool_finType => if b then 3 / 4 else 1 - 3 / 4 in
  let d := fun b : bool_finType => if b then 1 / 4 else 1 - 1 / 4 in
  let r := fun b : bool_finType => if b then 0 else 1 in
  let beta := / ln 3 in let p_rl := tilt ref r beta in
  law ref /\ law d /\ 0 < beta /\ (forall b, p_rl b = if b then 1 / 2 else 1 - 1 / 2) /\
  0 < KL d p_rl /\ E d r = E p_rl r + 1 / 4.
Proof. exact Overpayment.refuted_rise. Qed.

(** R9. Refuted by level sets: r = (0, 0, 1), and p_SFT moves mass between the first two responses. *)
Theorem R9_level_sets :
  let three := fun (a b c : R) (i : ordinal_finType 3) =>
    match val i with 0%nat => a | 1%nat => b | _ => c end in
  let p_rl := three (1 / 4) (1 / 4) (1 / 2) in
  let p_sft := three (1 / 8) (3 / 8) (1 / 2) in
  let r := three 0 0 1 in
  law p_rl /\ law p_sft /\ 0 < KL p_sft p_rl /\ E p_sft r = E p_rl r.
Proof. exact Overpayment.refuted_level_set. Qed.

(** V1. Refuted: "policy gradient finds the KL-minimal solution". ref = (1/2, 1/4, 1/4), r = 1 on the first
    two; on the path of T10 at sigma = 20/3, tau = 23/3 stands p = (96, 32, 9)/137, and q, with the same
    success rate, has a smaller KL. *)
Theorem V1_razor_refuted :
  let three := fun (a b c : R) (i : ordinal_finType 3) =>
    match val i with 0%nat => a | 1%nat => b | _ => c end in
  let ref := three (1 / 2) (1 / 4) (1 / 4) in
  let r := three 1 1 0 in
  let sigma := 20 / 3 in let tau := 23 / 3 in
  let w := fun y => / (/ ref y + (sigma - tau * r y)) in
  let p := fun y => w y / sum w in
  let q := three (256 / 411) (128 / 411) (9 / 137) in
  law ref /\ law p /\ law q /\ (forall y, 0 < / ref y + (sigma - tau * r y)) /\
  sum (fun y => ln (1 + ref y * (sigma - tau * r y))) = 0 /\
  p ord0 = 96 / 137 /\ p (lift ord0 ord0) = 32 / 137 /\ p (lift ord0 (lift ord0 ord0)) = 9 / 137 /\
  E q r = E p r /\ KL q ref < KL p ref.
Proof. exact Verifiable.razor_refuted. Qed.

(** T2. The smallest unbounded world: ref = (1/2, 1/2), r = 0, p = (1 - 2^-k, 2^-k) has
    O(p) >= beta (k/2 - 2) log 2. *)
Theorem T2_k3_in_reward_two_responses (beta : R) (k : nat) : 0 < beta -> (0 < k)%nat ->
  let ref := fun b : bool_finType => if b then 1 / 2 else 1 - 1 / 2 in
  let p := fun b : bool_finType => if b then 1 - (1 / 2) ^ k else 1 - (1 - (1 / 2) ^ k) in
  beta * (INR k / 2 - 2) * ln 2 <= E p (fun _ => 0) - beta * (KL p ref - KL ref p).
Proof. exact (@Penalties.k3_in_reward_two_responses beta k). Qed.

(** T7. Best of n, responses 0 ... N-1 numbered from worst to best (ties in a fixed order): with F(i) the
    mass of the first i, pi_n(i) = F(i+1)^n - F(i)^n. One draw is ref; one more draw keeps the better. *)
Theorem T7_draws (N : nat) (ref : ordinal_finType N -> R) (n : nat) (i : 'I_N) : law ref ->
  let F := fun i : nat => sum (fun j : ordinal_finType N => if (j < i)%nat then ref j else 0) in
  let best := fun n (i : ordinal_finType N) => F i.+1 ^ n - F i ^ n in
  best 1%nat i = ref i /\ best n.+1 i = best n i * F i.+1 + F i ^ n * ref i.
Proof. exact (@BestOfN.best_of_draws N ref n i). Qed.

(** T7. KL(pi_n‖ref) <= log n - (n-1)/n and KL(ref‖pi_n) <= n - 1 - log n, for any reward. *)
Theorem T7_bounds (N : nat) (ref : ordinal_finType N -> R) (n : nat) : law ref -> (0 < n)%nat ->
  let F := fun i : nat => sum (fun j : ordinal_finType N => if (j < i)%nat then ref j else 0) in
  let best := fun i : ordinal_finType N => F i.+1 ^ n - F i ^ n in
  KL best ref <= ln (INR n) - (INR n - 1) / INR n /\ KL ref best <= INR n - 1 - ln (INR n).
Proof. exact (@BestOfN.best_of_bounds N ref n). Qed.

(** T7. Best of m of best of n is best of m n. *)
Theorem T7_best_of_best (N : nat) (ref : ordinal_finType N -> R) (m n : nat) (i : 'I_N) : (0 < n)%nat ->
  let F := fun (p : ordinal_finType N -> R) (i : nat) =>
    sum (fun j : ordinal_finType N => if (j < i)%nat then p j else 0) in
  let best := fun p n (i : ordinal_finType N) => F p i.+1 ^ n - F p i ^ n in
  best (best ref n) m i = best ref (n * m)%coq_nat i.
Proof. exact (@BestOfN.best_of_best_of N ref m n i). Qed.

(** T7. Binary reward, 1 on the responses from k on: success 1 - (1-a)^n. (That pi_n is then a tilt holds
    with two responses, or with ties broken by the order of the draws: not here.) *)
Theorem T7_success (N : nat) (ref : ordinal_finType N -> R) (n k : nat) : law ref -> (0 < n)%nat ->
  (k <= N)%nat ->
  let F := fun i : nat => sum (fun j : ordinal_finType N => if (j < i)%nat then ref j else 0) in
  let best := fun i : ordinal_finType N => F i.+1 ^ n - F i ^ n in
  let r := fun i : ordinal_finType N => if (k <= i)%nat then 1 else 0 in
  E best r = 1 - (1 - E ref r) ^ n.
Proof. exact (@BestOfN.best_of_success N ref n k). Qed.

(** T4. Population standard deviation, no epsilon: h_G(c) = E[sqrt(m(1-m))]/(c(1-c)) lies between
    2(G-1)/G and min(sqrt(G-1), 1/sqrt(c(1-c))). *)
Theorem T4_factor_bounds (G : nat) (c : R) : (1 < G)%nat -> 0 < c < 1 ->
  let h := sum (fun k : ordinal_finType G.+1 => INR (binomial.binomial G k) * c ^ k * (1 - c) ^ (G - k) *
    sqrt (INR k / INR G * (1 - INR k / INR G))) / (c * (1 - c)) in
  2 * (INR G - 1) / INR G <= h /\ h <= sqrt (INR G - 1) /\ h <= 1 / sqrt (c * (1 - c)).
Proof. exact (fun g2 => @GroupNormalised.group_factor_bounds G g2 c). Qed.

(** T4. So logit c = logit a + h_G(c)/beta has a root for every beta > 0 ... *)
Theorem T4_root_exists (G : nat) (a beta : R) : (1 < G)%nat -> 0 < a < 1 -> 0 < beta ->
  let h := fun c => sum (fun k : ordinal_finType G.+1 => INR (binomial.binomial G k) * c ^ k *
    (1 - c) ^ (G - k) * sqrt (INR k / INR G * (1 - INR k / INR G))) / (c * (1 - c)) in
  exists c, 0 < c < 1 /\ ln (c / (1 - c)) = ln (a / (1 - a)) + h c / beta.
Proof. exact (fun g2 => @GroupNormalised.group_stationary_exists G g2 a beta). Qed.

(** T4. ... and at every root logit c - logit a lies in [2(G-1)/(G beta), sqrt(G-1)/beta], so the failure rate
    is at most ((1-a)/a) e^{-2(G-1)/(G beta)}. *)
Theorem T4_root_bounds (G : nat) (a beta c : R) : (1 < G)%nat -> 0 < a < 1 -> 0 < beta -> 0 < c < 1 ->
  let h := fun c => sum (fun k : ordinal_finType G.+1 => INR (binomial.binomial G k) * c ^ k *
    (1 - c) ^ (G - k) * sqrt (INR k / INR G * (1 - INR k / INR G))) / (c * (1 - c)) in
  let gain := ln (c / (1 - c)) - ln (a / (1 - a)) in
  ln (c / (1 - c)) = ln (a / (1 - a)) + h c / beta ->
  2 * (INR G - 1) / (INR G * beta) <= gain <= sqrt (INR G - 1) / beta /\
  1 - c <= (1 - a) / a * exp (- (2 * (INR G - 1) / (INR G * beta))).
Proof. exact (fun g2 => @GroupNormalised.group_stationary_bounds G g2 a beta c). Qed.

(** T4. Large groups, h = 1/sqrt(c(1-c)) = 2 cosh(x/2) at the log-odds x = logit c. *)
Theorem T4_large_group_factor (c : R) : 0 < c < 1 ->
  1 / sqrt (c * (1 - c)) = 2 * cosh (ln (c / (1 - c)) / 2).
Proof. exact (@GroupNormalised.spread c). Qed.

(** T4. With L = logit a, some x0 > max(0, L) has (x0 - L) tanh(x0/2) = 2 ... *)
Theorem T4_critical_exists (L : R) : exists x0, 0 < x0 /\ L < x0 /\ (x0 - L) * tanh (x0 / 2) = 2.
Proof. exact (@GroupNormalised.critical_exists L). Qed.

(** T4. ... and beta_c = sinh(x0/2) is critical for beta (x - L) = 2 cosh(x/2): no stationary policy below
    it, one at it, exactly two above it. (That the lower one attracts is not proved.) *)
Theorem T4_critical_beta (L x0 beta : R) : 0 < x0 -> L < x0 -> (x0 - L) * tanh (x0 / 2) = 2 -> 0 < beta ->
  let beta_c := sinh (x0 / 2) in
  let stationary := fun beta x => beta * (x - L) = 2 * cosh (x / 2) in
  (beta < beta_c -> forall x, ~ stationary beta x) /\
  (beta = beta_c -> forall x, stationary beta x <-> x = x0) /\
  (beta_c < beta -> exists x1 x2, L < x1 < x0 /\ x0 < x2 /\
     forall x, stationary beta x <-> x = x1 \/ x = x2).
Proof. exact (@GroupNormalised.critical_beta L x0 beta). Qed.

(** T3. Leashes per token, T tokens from V, reward r of the sequence. [value p n h] is the expected reward
    under p after the tokens h when n tokens remain, [Q a] that after one more token a; "stationary at
    h" says that the gradient at the logits of h, divided by the probability of h, vanishes. k2 in the
    loss: stationary at h iff p(.|h) = tilt of ref(.|h) by Q(h,.). *)
Theorem T3_k2_is_tilt_of_hard_value (V : finType) (T : nat) (r : list V -> R) (beta : R)
  (ref p : list V -> V -> R) (h : list V) : 0 < beta ->
  (forall h, law (p h) /\ forall a, 0 < p h a) -> (forall h, law (ref h) /\ forall a, 0 < ref h a) ->
  let value := fix value (p : list V -> V -> R) (n : nat) (h : list V) {struct n} : R :=
    if n is m.+1 then E (p h) (fun a => value p m (rcons h a)) else r h in
  let Q := fun a => value p (T - size h).-1 (rcons h a) in
  (forall a, p h a * (Q a - E (p h) Q) =
     beta * (p h a * (ln (p h a / ref h a) - E (p h) (fun b => ln (p h b / ref h b))))) <->
  (forall a, p h a = tilt (ref h) Q beta a).
Proof. exact (fun b0 => @PerToken.stationary_k2_tilt V T r beta b0 ref p h). Qed.

(** T3. k3 in the loss: stationary at h only if p(a|h) = beta ref(a|h)/(mu - Q(h,a)), mu = V(h) + beta. *)
Theorem T3_k3_form (V : finType) (T : nat) (r : list V -> R) (beta : R) (ref p : list V -> V -> R)
  (h : list V) : 0 < beta ->
  (forall h, law (p h) /\ forall a, 0 < p h a) -> (forall h, law (ref h) /\ forall a, 0 < ref h a) ->
  let value := fix value (p : list V -> V -> R) (n : nat) (h : list V) {struct n} : R :=
    if n is m.+1 then E (p h) (fun a => value p m (rcons h a)) else r h in
  let Q := fun a => value p (T - size h).-1 (rcons h a) in
  (forall a, p h a * (Q a - E (p h) Q) = beta * (p h a - ref h a)) ->
  let mu := E (p h) Q + beta in
  (forall a, Q a < mu) /\ (forall a, p h a = beta * ref h a / (mu - Q a)).
Proof. exact (fun b0 => @PerToken.stationary_k3_forward V T r beta b0 ref p h). Qed.

(** T3. At most one full-support policy is stationary at every prefix with k2 ... (That it attracts every
    flow is not proved.) *)
Theorem T3_k2_unique (V : finType) (T : nat) (r : list V -> R) (beta : R)
  (ref p p' : list V -> V -> R) : 0 < beta ->
  (forall h, law (p h) /\ forall a, 0 < p h a) -> (forall h, law (p' h) /\ forall a, 0 < p' h a) ->
  (forall h, law (ref h) /\ forall a, 0 < ref h a) ->
  let value := fix value (p : list V -> V -> R) (n : nat) (h : list V) {struct n} : R :=
    if n is m.+1 then E (p h) (fun a => value p m (rcons h a)) else r h in
  let stationary := fun p h => let Q := fun a => value p (T - size h).-1 (rcons h a) in
    forall a, p h a * (Q a - E (p h) Q) =
      beta * (p h a * (ln (p h a / ref h a) - E (p h) (fun b => ln (p h b / ref h b)))) in
  (forall h, (size h < T)%nat -> stationary p h) -> (forall h, (size h < T)%nat -> stationary p' h) ->
  forall h, (size h < T)%nat -> forall a, p h a = p' h a.
Proof. exact (fun b0 => @PerToken.per_token_k2_unique V T r beta b0 ref p p'). Qed.

(** T3. ... and with k3. *)
Theorem T3_k3_unique (V : finType) (T : nat) (r : list V -> R) (beta : R)
  (ref p p' : list V -> V -> R) : 0 < beta ->
  (forall h, law (p h) /\ forall a, 0 < p h a) -> (forall h, law (p' h) /\ forall a, 0 < p' h a) ->
  (forall h, law (ref h) /\ forall a, 0 < ref h a) ->
  let value := fix value (p : list V -> V -> R) (n : nat) (h : list V) {struct n} : R :=
    if n is m.+1 then E (p h) (fun a => value p m (rcons h a)) else r h in
  let stationary := fun p h => let Q := fun a => value p (T - size h).-1 (rcons h a) in
    forall a, p h a * (Q a - E (p h) Q) = beta * (p h a - ref h a) in
  (forall h, (size h < T)%nat -> stationary p h) -> (forall h, (size h < T)%nat -> stationary p' h) ->
  forall h, (size h < T)%nat -> forall a, p h a = p' h a.
Proof. exact (fun b0 => @PerToken.per_token_k3_unique V T r beta b0 ref p p'). Qed.

(** T3. With k2 there is one, by backward induction. *)
Theorem T3_k2_exists (V : finType) (T : nat) (r : list V -> R) (beta : R) (ref : list V -> V -> R) :
  0 < beta -> (forall h, law (ref h) /\ forall a, 0 < ref h a) ->
  let value := fix value (p : list V -> V -> R) (n : nat) (h : list V) {struct n} : R :=
    if n is m.+1 then E (p h) (fun a => value p m (rcons h a)) else r h in
  exists p, (forall h, law (p h) /\ forall a, 0 < p h a) /\
  forall h, (size h < T)%nat -> let Q := fun a => value p (T - size h).-1 (rcons h a) in
    forall a, p h a * (Q a - E (p h) Q) =
      beta * (p h a * (ln (p h a / ref h a) - E (p h) (fun b => ln (p h b / ref h b)))).
Proof. exact (fun b0 fr => ex_intro _ (PerToken.k2_policy T r beta ref)
  (@PerToken.per_token_k2_exists V T r beta b0 ref fr)). Qed.

(** T4. Forward leash, h_G(c) c (1-c) = beta (c - a): exactly one root above a, for every G and beta. *)
Theorem T4_forward_leash_root (G : nat) (a beta : R) : (1 < G)%nat -> 0 < a < 1 -> 0 < beta ->
  let h := fun c => sum (fun k : ordinal_finType G.+1 => INR (binomial.binomial G k) * c ^ k *
    (1 - c) ^ (G - k) * sqrt (INR k / INR G * (1 - INR k / INR G))) / (c * (1 - c)) in
  exists c, a < c < 1 /\ h c * (c * (1 - c)) = beta * (c - a) /\
  forall c', a < c' < 1 -> h c' * (c' * (1 - c')) = beta * (c' - a) -> c' = c.
Proof. exact (fun g2 => @GroupNormalised.group_forward_root G g2 a beta). Qed.

(** T11. Group-normalised advantages with a noisy verifier: a draw is a response and its verdict, and the
    expected gradient is grad p(A) times (1 - f0 - f1) h(f0 + (1 - f0 - f1) p(A)), h as in
    T4_expected_gradient. *)
Theorem T11_noisy_groups (Y : finType) (A : Y -> bool) (p S : Y -> R) (f0 f1 : R) (G : nat) (phi : nat -> R) :
  law p -> E p S = 0 -> (0 < G)%nat -> 0 <= f0 <= 1 -> 0 <= f1 <= 1 ->
  let r := fun y => if A y then 1 else 0 in
  let passes := fun y => if A y then 1 - f1 else f0 in
  let joint := fun z : prod_finType Y bool_finType => p z.1 * (if z.2 then passes z.1 else 1 - passes z.1) in
  let c := f0 + (1 - f0 - f1) * E p r in
  0 < c < 1 ->
  let draws := fix draws (p : prod_finType Y bool_finType -> R) (n : nat)
      (F : list (prod_finType Y bool_finType) -> R) {struct n} : R :=
    if n is m.+1 then E p (fun y => draws p m (fun l => F (y :: l))) else F nil in
  draws joint G (fun l => \big[Rplus/0]_(z <- l)
    (((if z.2 then 1 else 0) - INR (count (fun z => z.2) l) / INR G) * phi (count (fun z => z.2) l) * S z.1)
    / INR G) =
  (1 - f0 - f1) * (sum (fun k : ordinal_finType G.+1 => INR (binomial.binomial G k) * c ^ k *
    (1 - c) ^ (G - k) * (INR k / INR G * (1 - INR k / INR G) * phi k)) / (c * (1 - c))) *
  E p (fun y => r y * S y).
Proof. exact (@Groups.noisy_group_gradient Y A p S f0 f1 G phi). Qed.

(** S10 (averaged). (J(p) - J(d))/beta - E_q KL(p‖ref) = DeltaL(tilt) - E_q KL(p‖tilt). *)
Theorem S10_identity_averaged (X : finType) (Y : X -> finType) (q : X -> R) (d p r ref : forall x, Y x -> R)
  (beta : R) : (forall x, law (d x)) -> (forall x, law (p x)) -> (forall x, law (ref x)) ->
  (forall x, d x ≪ ref x) -> (forall x, p x ≪ ref x) ->
  (E q (fun x => E (p x) (r x)) - E q (fun x => E (d x) (r x))) / beta - E q (fun x => KL (p x) (ref x)) =
  E q (fun x => CE (d x) (tilt (ref x) (r x) beta)) - E q (fun x => CE (d x) (ref x)) -
  E q (fun x => KL (p x) (tilt (ref x) (r x) beta)).
Proof. exact (@Overpayment.avg_run_proves X Y q d p r ref beta). Qed.

(** T2. k3 in the reward with two responses, ref = (a, 1-a), r = (1, 0), p = (x, 1-x): O' > 0 on all of
    [a, 1), so that the flow from ref runs away, if a >= 1/2 or beta (log((1-a)/a) - 2(1-2a)) < 1; if not,
    O' has a zero in (a, 1), where the flow stops. *)
Theorem T2_k3_in_reward_threshold (a beta : R) : 0 < a < 1 -> 0 < beta ->
  let two := fun (x : R) (b : bool_finType) => if b then x else 1 - x in
  let r := fun b : bool_finType => if b then 1 else 0 in
  let O := fun x => E (two x) r - beta * (KL (two x) (two a) - KL (two a) (two x)) in
  let O' := fun x => 1 - beta * (ln (x / a) - ln ((1 - x) / (1 - a)) + a / x - (1 - a) / (1 - x)) in
  let runs := 1 / 2 <= a \/ beta * (ln ((1 - a) / a) - 2 * (1 - 2 * a)) < 1 in
  (forall x, 0 < x < 1 -> is_derive O x (O' x)) /\
  (runs -> forall x, a <= x < 1 -> 0 < O' x) /\
  (~ runs -> exists x, a < x < 1 /\ O' x = 0).
Proof. exact (@Penalties.k3_in_reward_threshold a beta). Qed.
