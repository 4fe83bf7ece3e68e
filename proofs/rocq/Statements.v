(** * The trusted statements, on one page

    What the machine-checked theorems say: for each one a closed proposition, written from primitives. The
    only notions are sums over a finite type, [exp], [ln], [sqrt], [Rabs], Coquelicot's [is_derive] (f has
    this derivative at x), [ex_derive] (f has one) and [is_RInt] (f has this integral), and the
    abbreviations of the next block; for the second chapter also [Rpower] (x^a for x > 0), [sinh], [cosh],
    [tanh], [INR] (a natural number as a real), [binomial], [Req_EM_T x y] (is x = y?) and the list
    functions of MathComp. The file imports nothing of this development, and the audit compiles it before
    anything else exists, so that no definition, notation or module of another file can change what is
    said here. [Main.v] proves each proposition under the same name.

    A name begins with the id of the statement in the catalogue; the comment above says which form is
    stated. Responses form a finite type [Y]; [p ≪ ref] says that p puts mass only where ref does (always
    so when ref has full support), which is what makes KL(p‖ref) finite. *)

From Coq Require Import Reals.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop binomial.
From Coquelicot Require Import Coquelicot.

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
(** KL divergence, SFT loss (cross entropy), in nats; total variation, chi-squared divergence. *)
Local Notation KL p q := (sum (fun y => p y * ln (p y / q y))).
Local Notation CE d p := (- sum (fun y => d y * ln (p y))).
Local Notation TV p q := (sum (fun y => Rabs (p y - q y)) / 2).
Local Notation chi2 d p := (sum (fun y => d y ^ 2 / p y) - 1).
(** Partition function, tilt (the exact RL optimum), tilt at time s = 1/beta. *)
Local Notation Z ref r beta := (E ref (fun y => exp (r y / beta))).
Local Notation tilt ref r beta := (fun y => ref y * exp (r y / beta) / Z ref r beta).
Local Notation tilt_at ref r s :=
  (fun y => ref y * exp (s * r y) / E ref (fun z => exp (s * r z))).
(** Regularised reward; softmax policy. *)
Local Notation J_b p ref r beta := (E p r - beta * KL p ref).
Local Notation softmax theta := (fun y => exp (theta y) / sum (fun z => exp (theta z))).
(** The squared norm of g centred at its mean over the responses. *)
Definition centred_sq (Y : finType) (g : Y -> R) : R :=
  \big[Rplus/0]_(y : Y) (g y - (\big[Rplus/0]_(z : Y) g z) / (\big[Rplus/0]_(z : Y) 1)) ^ 2.

(** Averages over prompts x with law q; each prompt has its own responses, laws and rewards. *)
Local Notation J q p r := (E q (fun x => E (p x) (r x))).
Local Notation KLq q p ref := (E q (fun x => KL (p x) (ref x))).
Local Notation Lq q d p := (E q (fun x => CE (d x) (p x))).
Local Notation logZ q ref r beta := (E q (fun x => ln (Z (ref x) (r x) beta))).
Local Notation tilts ref r beta := (fun x => tilt (ref x) (r x) beta).
Local Notation J_bq q p ref r beta := (J q p r - beta * KLq q p ref).
Local Notation laws p := (forall x, law (p x)).
Local Notation "p ≪≪ ref" := (forall x, p x ≪ ref x) (at level 70).

(** Sequences of T tokens from the vocabulary V, and the law that an autoregressive policy p gives to the
    next T tokens after h: the product of its token probabilities. *)
Section Sequences.
Variable V : finType.

Fixpoint sequences (T : nat) : finType :=
  if T is S n then [finType of V * sequences n] else unit_finType.

Fixpoint tokens (T : nat) : sequences T -> list V :=
  if T is S n then fun s : V * sequences n => s.1 :: tokens s.2 else fun _ => [::].

Fixpoint sequence_law (p : list V -> V -> R) (h : list V) (T : nat) : sequences T -> R :=
  if T is S n
  then fun s : V * sequences n => p h s.1 * sequence_law p (rcons h s.1) (T:=n) s.2
  else fun _ => 1.
End Sequences.

(** ** Foundations *)

(** F1. Gibbs inequality: KL(p‖q) >= 0, with equality iff p = q. *)
Definition F1_gibbs_inequality : Prop :=
  forall (Y : finType) (p q : Y -> R),
  law p -> law q -> p ≪ q ->
  0 <= KL p q /\ (KL p q = 0 <-> forall y, p y = q y).

(** F2. Decomposition: CE(d,p) = H(d) + KL(d‖p); CE(d,p) >= H(d), with equality at p = d only. *)
Definition F2_decomposition : Prop :=
  forall (Y : finType) (d p : Y -> R),
  law d -> law p -> d ≪ p ->
  CE d p = CE d d + KL d p /\ CE d d <= CE d p /\ (CE d p = CE d d <-> forall y, p y = d y).

(** F3. Gibbs variational principle: J_b(tilt) - J_b(p) = beta KL(p‖tilt) and J_b(tilt) = beta log Z. *)
Definition F3_gibbs_variational_principle : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta : R),
  law p -> law ref -> p ≪ ref -> 0 < beta ->
  J_b (tilt ref r beta) ref r beta - J_b p ref r beta = beta * KL p (tilt ref r beta) /\
  J_b (tilt ref r beta) ref r beta = beta * ln (Z ref r beta).

(** F3. The maximum of J_b is beta log Z, reached at the tilt only. *)
Definition F3_unique_maximiser : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta : R),
  law p -> law ref -> p ≪ ref -> 0 < beta ->
  J_b p ref r beta <= beta * ln (Z ref r beta) /\
  (J_b p ref r beta = beta * ln (Z ref r beta) <-> forall y, p y = tilt ref r beta y).

(** F5. Softmax derivatives, as derivatives in every direction g of the logits: the gradient of the
    SFT loss is p - d. *)
Definition F5_gradient_of_sft_loss : Prop :=
  forall (Y : finType) (d theta g : Y -> R),
  law d ->
  is_derive (fun eta => CE d (softmax (fun y => theta y + eta * g y))) 0
            (sum (fun y => (softmax theta y - d y) * g y)).

(** F5. The gradient of the raw reward is p * (r - E_p r). *)
Definition F5_gradient_of_reward : Prop :=
  forall (Y : finType) (theta r g : Y -> R),
  inhabited Y ->
  is_derive (fun eta => E (softmax (fun y => theta y + eta * g y)) r) 0
            (sum (fun y => softmax theta y * (r y - E (softmax theta) r) * g y)).

(** F5. The Hessian of the SFT loss is diag(p) - p p^T (bilinear form in the directions g and h). *)
Definition F5_hessian_of_sft_loss : Prop :=
  forall (Y : finType) (d theta g h : Y -> R),
  law d ->
  is_derive (fun eta => sum (fun y => (softmax (fun z => theta z + eta * g z) y - d y) * h y)) 0
            (sum (fun y => softmax theta y * h y * g y) - E (softmax theta) h * E (softmax theta) g).

(** F5. KL between softmax policies is the Bregman divergence of logsumexp. *)
Definition F5_bregman : Prop :=
  forall (Y : finType) (theta theta' : Y -> R),
  inhabited Y ->
  KL (softmax theta) (softmax theta') =
  ln (sum (fun y => exp (theta' y))) - ln (sum (fun y => exp (theta y)))
  - E (softmax theta) (fun y => theta' y - theta y).

(** I1. Implicit reward: every full-support p is the tilt of a full-support ref for the reward
    beta log(p/ref), and any reward whose tilt is p differs from it by a constant. *)
Definition I1_implicit_reward : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta : R),
  law p -> law ref -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta ->
  (forall y, tilt ref (fun z => beta * ln (p z / ref z)) beta y = p y) /\
  ((forall y, tilt ref r beta y = p y) -> exists c, forall y, r y = beta * ln (p y / ref y) + c).

(** I1. With ref = d: J(p) - J(d) = beta [KL(d‖p) + KL(p‖d)] + (E_p - E_d)(r - r'). *)
Definition I1_reward_gain : Prop :=
  forall (Y : finType) (p d r : Y -> R) (beta : R),
  law p -> law d -> (forall y, 0 < p y) -> (forall y, 0 < d y) ->
  0 < beta ->
  let r' := fun y => beta * ln (p y / d y) in
  E p r - E d r = beta * (KL d p + KL p d) + (E p (fun y => r y - r' y) - E d (fun y => r y - r' y)).

(** I1. The last term is at most range(r - r') TV(p,d): stated for any f with values in [m, M]. *)
Definition I1_total_variation_bound : Prop :=
  forall (Y : finType) (p d f : Y -> R) (m M : R),
  law p -> law d -> (forall y, m <= f y <= M) ->
  Rabs (E p f - E d f) <= (M - m) * TV p d.

(** ** SFT, then RL *)

(** S1. Exact change: DeltaL(tilt) = log Z - E_d r/beta, for every d ≪ ref. *)
Definition S1_exact_change : Prop :=
  forall (Y : finType) (d ref r : Y -> R) (beta : R),
  law d -> law ref -> d ≪ ref ->
  CE d (tilt ref r beta) - CE d ref = ln (Z ref r beta) - E d r / beta.

(** S1. For any policy: DeltaL(p) = KL(ref‖p) - (E_d - E_ref) log(p/ref). *)
Definition S1_exact_change_any_policy : Prop :=
  forall (Y : finType) (d p ref : Y -> R),
  law d -> law p -> law ref -> d ≪ ref -> ref ≪ p ->
  CE d p - CE d ref =
  KL ref p - (E d (fun y => ln (p y / ref y)) - E ref (fun y => ln (p y / ref y))).

(** S2. Coupling at SFT optimality: with ref = d, DeltaL(tilt) = log E_d e^{r/beta} - E_d r/beta =
    KL(d‖tilt). *)
Definition S2_coupling_gap : Prop :=
  forall (Y : finType) (d r : Y -> R) (beta : R),
  law d ->
  CE d (tilt d r beta) - CE d d = ln (E d (fun y => exp (r y / beta))) - E d r / beta /\
  CE d (tilt d r beta) - CE d d = KL d (tilt d r beta).

(** S2. Coupling at SFT optimality: with ref = d, DeltaL(tilt) >= 0, and = 0 iff r is constant on the
    support of d. *)
Definition S2_coupling_at_sft_optimality : Prop :=
  forall (Y : finType) (d r : Y -> R) (beta : R),
  law d -> 0 < beta ->
  0 <= CE d (tilt d r beta) - CE d d /\
  (CE d (tilt d r beta) - CE d d = 0 <-> forall y z, 0 < d y -> 0 < d z -> r y = r z).

(** S3. Two-sided size, by the two-point laws (Bennett), with v = s^2 Var_d(r), a = s (E_d r - m),
    b = s (M - E_d r) for any bounds m <= r <= M strictly around E_d r; s = 1/beta. *)
Definition S3_two_sided_size : Prop :=
  forall (Y : finType) (d r : Y -> R) (beta m M : R),
  law d -> 0 < beta -> (forall y, m <= r y <= M) ->
  m < E d r < M ->
  let v := (/ beta) ^ 2 * Var d r in
  let a := / beta * (E d r - m) in
  let b := / beta * (M - E d r) in
  ln ((a ^ 2 * exp (v / a) + v * exp (- a)) / (a ^ 2 + v)) <= CE d (tilt d r beta) - CE d d
  <= ln ((b ^ 2 * exp (- v / b) + v * exp b) / (b ^ 2 + v)).

(** S3. Each of these two bounds is attained by every law on two reward levels. *)
Definition S3_two_sided_size_attained : Prop :=
  forall (Y : finType) (d r : Y -> R) (beta m M : R),
  law d -> 0 < beta ->
  (forall y, r y = m \/ r y = M) -> m < E d r < M ->
  let v := (/ beta) ^ 2 * Var d r in
  let a := / beta * (E d r - m) in
  let b := / beta * (M - E d r) in
  CE d (tilt d r beta) - CE d d = ln ((a ^ 2 * exp (v / a) + v * exp (- a)) / (a ^ 2 + v)) /\
  CE d (tilt d r beta) - CE d d = ln ((b ^ 2 * exp (- v / b) + v * exp b) / (b ^ 2 + v)).

(** S3. As beta -> inf (s = 1/beta -> 0), DeltaL(tilt_s) = s^2 Var_d(r)/2 + o(s^2). *)
Definition S3_small_time : Prop :=
  forall (Y : finType) (d r : Y -> R) (eps : R),
  law d -> 0 < eps -> exists delta, 0 < delta /\
  forall s, 0 < s < delta ->
  Rabs (CE d (tilt_at d r s) - CE d d - s ^ 2 * Var d r / 2) <= eps * s ^ 2.

(** S3. DeltaL <= s^2 R^2/8 (Hoeffding). *)
Definition S3_hoeffding : Prop :=
  forall (Y : finType) (d r : Y -> R) (beta m M : R),
  law d -> 0 < beta -> (forall y, m <= r y <= M) ->
  CE d (tilt d r beta) - CE d d <= (M - m) ^ 2 / (8 * beta ^ 2).

(** S3. The same two bounds with m and M bounds of r on the support of d only. *)
Definition S3_two_sided_size_on_support : Prop :=
  forall (Y : finType) (d r : Y -> R) (beta m M : R),
  law d -> 0 < beta -> (forall y, 0 < d y -> m <= r y <= M) -> m < E d r < M ->
  let v := (/ beta) ^ 2 * Var d r in
  let a := / beta * (E d r - m) in
  let b := / beta * (M - E d r) in
  ln ((a ^ 2 * exp (v / a) + v * exp (- a)) / (a ^ 2 + v)) <= CE d (tilt d r beta) - CE d d
  <= ln ((b ^ 2 * exp (- v / b) + v * exp b) / (b ^ 2 + v)).

(** S3. DeltaL <= s^2 R^2/8 with R the range of r on the support of d. *)
Definition S3_hoeffding_on_support : Prop :=
  forall (Y : finType) (d r : Y -> R) (beta m M : R),
  law d -> 0 < beta -> (forall y, 0 < d y -> m <= r y <= M) ->
  CE d (tilt d r beta) - CE d d <= (M - m) ^ 2 / (8 * beta ^ 2).

(** S4. Longer RL costs more: d/ds DeltaL(tilt_s) = E_{tilt_s} r - E_d r. *)
Definition S4_derivative : Prop :=
  forall (Y : finType) (d r : Y -> R) (s : R),
  law d ->
  is_derive (fun s => CE d (tilt_at d r s) - CE d d) s (E (tilt_at d r s) r - E d r).

(** S4. That derivative is the integral of Var_{tilt_u}(r) for u from 0 to s. *)
Definition S4_variance_integral : Prop :=
  forall (Y : finType) (d r : Y -> R) (s : R),
  law d ->
  is_RInt (fun u => Var (tilt_at d r u) r) 0 s (E (tilt_at d r s) r - E d r).

(** S4. The second derivative of DeltaL in s is Var_{tilt_s}(r) >= 0, so DeltaL is convex in s. *)
Definition S4_second_derivative : Prop :=
  forall (Y : finType) (d r : Y -> R) (s : R),
  law d ->
  is_derive (fun s => E (tilt_at d r s) r - E d r) s (Var (tilt_at d r s) r)
    /\ 0 <= Var (tilt_at d r s) r.

(** S4. DeltaL is nondecreasing in s. *)
Definition S4_monotone : Prop :=
  forall (Y : finType) (d r : Y -> R) (s t : R),
  law d -> 0 <= s <= t ->
  CE d (tilt_at d r s) - CE d d <= CE d (tilt_at d r t) - CE d d.

(** S4. DeltaL is strictly increasing in s iff r is not constant on the support of d. *)
Definition S4_strictly_monotone : Prop :=
  forall (Y : finType) (d r : Y -> R) (s t : R),
  law d -> 0 <= s < t ->
  CE d (tilt_at d r s) - CE d d < CE d (tilt_at d r t) - CE d d <->
  exists y z, 0 < d y /\ 0 < d z /\ r y <> r z.

(** S4. J(tilt) - J(d) >= beta DeltaL(tilt). *)
Definition S4_gain_exceeds_cost : Prop :=
  forall (Y : finType) (d r : Y -> R) (beta : R),
  law d -> 0 < beta ->
  beta * (CE d (tilt d r beta) - CE d d) <= E (tilt d r beta) r - E d r.

(** S5. Price of reward, dual bound: any policy with J(p) >= c has KL(d‖p) >= E_d log(1 - l (r-c)/(M-c))
    for every l in [0,1] and M >= max r; l = 1 needs d = 0 where r = M. *)
Definition S5_price_of_reward : Prop :=
  forall (Y : finType) (d r : Y -> R) (c M : R) (p : Y -> R) (l : R),
  law d -> (forall y, r y <= M) -> c < M ->
  law p -> d ≪ p -> c <= E p r -> 0 <= l <= 1 -> (l = 1 -> forall y, r y = M -> d y = 0) ->
  E d (fun y => ln (1 - l * (r y - c) / (M - c))) <= KL d p.

(** S5. Price of reward, exactly (K_inf): for M = max r and J(d) < c < M some l and p have J(p) = c,
    KL(d‖p) equal to the dual value of l, minimal among the policies with J >= c and maximal among the
    dual values. If l < 1, p = d/(1 - l (r-c)/(M-c)); if l = 1 (only when d(argmax r) = 0), so outside
    argmax r. *)
Definition S5_price_of_reward_exact : Prop :=
  forall (Y : finType) (d r : Y -> R) (c M : R) (y0 : Y),
  law d -> (forall y, r y <= M) -> c < M ->
  r y0 = M -> E d r < c ->
  exists l p, 0 <= l <= 1 /\ (l = 1 -> forall y, r y = M -> d y = 0) /\
  law p /\ d ≪ p /\ E p r = c /\
  (forall y, l < 1 \/ r y <> M -> p y = d y / (1 - l * (r y - c) / (M - c))) /\
  KL d p = E d (fun y => ln (1 - l * (r y - c) / (M - c))) /\
  (forall p', law p' -> d ≪ p' -> c <= E p' r -> KL d p <= KL d p') /\
  (forall l', 0 <= l' <= 1 -> (l' = 1 -> forall y, r y = M -> d y = 0) ->
   E d (fun y => ln (1 - l' * (r y - c) / (M - c))) <= KL d p).

(** S5. Weaker: KL(d‖p) >= kl_bernoulli((J(d)-m)/(M-m), (c-m)/(M-m)) for c <= J(p) and bounds m <= r <=
    M with m < J(d) <= c < M. *)
Definition S5_price_of_reward_bernoulli : Prop :=
  forall (Y : finType) (d r : Y -> R) (c M : R) (p : Y -> R) (m : R),
  law d -> (forall y, r y <= M) -> c < M ->
  law p -> d ≪ p -> (forall y, m <= r y) -> m < E d r -> E d r <= c -> c <= E p r ->
  let a := (E d r - m) / (M - m) in
  let b := (c - m) / (M - m) in
  a * ln (a / b) + (1 - a) * ln ((1 - a) / (1 - b)) <= KL d p.

(** S5. Pinsker form: with ref = d, any policy has DeltaL(p) >= 2 (J(p) - J(d))^2/R^2. *)
Definition S5_price_of_reward_pinsker : Prop :=
  forall (Y : finType) (d p r : Y -> R) (m M : R),
  law d -> law p -> d ≪ p -> (forall y, m <= r y <= M) ->
  m < M -> 2 * (E p r - E d r) ^ 2 / (M - m) ^ 2 <= CE d p - CE d d.

(** S6. Identity: DeltaL(tilt) = KL(ref‖tilt) - (E_d r - E_ref r)/beta. *)
Definition S6_identity : Prop :=
  forall (Y : finType) (d ref r : Y -> R) (beta : R),
  law d -> law ref -> d ≪ ref -> 0 < beta ->
  CE d (tilt ref r beta) - CE d ref = KL ref (tilt ref r beta) - (E d r - E ref r) / beta.

(** S6. RL to the tilt lowers the SFT loss iff E_d r > beta log Z. *)
Definition S6_lowers_iff : Prop :=
  forall (Y : finType) (d ref r : Y -> R) (beta : R),
  law d -> law ref -> d ≪ ref -> 0 < beta ->
  CE d (tilt ref r beta) < CE d ref <-> beta * ln (Z ref r beta) < E d r.

(** S6. Threshold (Pinsker): DeltaL > 0 whenever KL(d‖ref) < 2 (beta KL(ref‖tilt)/R)^2. *)
Definition S6_threshold : Prop :=
  forall (Y : finType) (d ref r : Y -> R) (beta m M : R),
  law d -> law ref -> d ≪ ref -> 0 < beta ->
  (forall y, m <= r y <= M) -> m < M ->
  KL d ref < 2 * (beta * KL ref (tilt ref r beta) / (M - m)) ^ 2 ->
  CE d ref < CE d (tilt ref r beta).

(** S6. Exact radius: DeltaL > 0 whenever KL(d‖ref) < KL(tilt_t‖ref), for a t > 0 that solves
    J(tilt_t) = beta log Z. *)
Definition S6_exact_radius : Prop :=
  forall (Y : finType) (d ref r : Y -> R) (beta t : R),
  law d -> law ref -> d ≪ ref -> 0 < beta -> 0 < t ->
  E (tilt_at ref r t) r = beta * ln (Z ref r beta) -> KL d ref < KL (tilt_at ref r t) ref ->
  CE d ref < CE d (tilt ref r beta).

(** S6. Such a t exists in (0, s), s = 1/beta, unless r is constant on the support of ref. *)
Definition S6_exact_radius_exists : Prop :=
  forall (Y : finType) (ref r : Y -> R) (beta : R),
  law ref -> 0 < beta ->
  (exists y z, 0 < ref y /\ 0 < ref z /\ r y <> r z) ->
  exists t, 0 < t < / beta /\ E (tilt_at ref r t) r = beta * ln (Z ref r beta).

(** S6. The exact radius is never smaller than Pinsker's. *)
Definition S6_exact_radius_vs_pinsker : Prop :=
  forall (Y : finType) (ref r : Y -> R) (beta t m M : R),
  law ref -> 0 < beta ->
  (forall y, m <= r y <= M) -> m < M -> E (tilt_at ref r t) r = beta * ln (Z ref r beta) ->
  2 * (beta * KL ref (tilt ref r beta) / (M - m)) ^ 2 <= KL (tilt_at ref r t) ref.

(** S6. The exact radius is tight at d = tilt_t: DeltaL = 0 there. *)
Definition S6_exact_radius_tight : Prop :=
  forall (Y : finType) (ref r : Y -> R) (beta t : R),
  law ref -> 0 < beta ->
  E (tilt_at ref r t) r = beta * ln (Z ref r beta) ->
  CE (tilt_at ref r t) (tilt ref r beta) = CE (tilt_at ref r t) ref.

(** S6. Best early stop: at a time s0 with J(tilt_{s0}) = J(d), DeltaL is -KL(tilt_{s0}‖ref), and at any
    other time s it is larger by KL(tilt_{s0}‖tilt_s). *)
Definition S6_best_early_stop : Prop :=
  forall (Y : finType) (d ref r : Y -> R) (s0 s : R),
  law d -> law ref -> d ≪ ref ->
  E (tilt_at ref r s0) r = E d r ->
  CE d (tilt_at ref r s0) - CE d ref = - KL (tilt_at ref r s0) ref /\
  CE d (tilt_at ref r s) - CE d ref =
    (CE d (tilt_at ref r s0) - CE d ref) + KL (tilt_at ref r s0) (tilt_at ref r s).

(** S6. That time s0 > 0 exists for every reward c, such as J(d), with J(ref) < c < r(y0) for some response
    y0 in the support of ref. *)
Definition S6_best_early_stop_exists : Prop :=
  forall (Y : finType) (ref r : Y -> R) (c : R) (y0 : Y),
  law ref -> 0 < ref y0 -> E ref r < c < r y0 ->
  exists s0, 0 < s0 /\ E (tilt_at ref r s0) r = c.

(** S7. Approximate SFT optimum, any RL algorithm: KL(d‖ref) <= eps implies
    J(p) <= J(d) + R sqrt((eps + DeltaL(p))/2). *)
Definition S7_approximate_optimum : Prop :=
  forall (Y : finType) (d p ref r : Y -> R) (m M eps : R),
  law d -> law p -> law ref -> d ≪ p -> d ≪ ref ->
  (forall y, m <= r y <= M) -> KL d ref <= eps ->
  E p r <= E d r + (M - m) * sqrt ((eps + (CE d p - CE d ref)) / 2).

(** S7. The same by Bretagnolle and Huber: J(p) <= J(d) + R sqrt(1 - e^{-(eps + DeltaL(p))}). *)
Definition S7_approximate_optimum_bretagnolle_huber : Prop :=
  forall (Y : finType) (d p ref r : Y -> R) (m M eps : R),
  law d -> law p -> law ref -> d ≪ p -> d ≪ ref ->
  (forall y, m <= r y <= M) -> KL d ref <= eps ->
  E p r <= E d r + (M - m) * sqrt (1 - exp (- (eps + (CE d p - CE d ref)))).

(** S7. DeltaL(p) >= K_inf(d, c) - eps for every c <= J(p), with each dual value (S5) in place of K_inf. *)
Definition S7_approximate_optimum_dual : Prop :=
  forall (Y : finType) (d p ref r : Y -> R) (c M l eps : R),
  law d -> law p -> law ref ->
  d ≪ p -> d ≪ ref -> (forall y, r y <= M) -> c < M -> c <= E p r -> 0 <= l < 1 -> KL d ref <= eps ->
  E d (fun y => ln (1 - l * (r y - c) / (M - c))) - eps <= CE d p - CE d ref.

(** S7. The same with the dual variable up to its end l = 1, which needs d = 0 where r = M. *)
Definition S7_approximate_optimum_dual_closed : Prop :=
  forall (Y : finType) (d p ref r : Y -> R) (c M l eps : R),
  law d -> law p -> law ref -> d ≪ p -> d ≪ ref -> (forall y, r y <= M) -> c < M -> c <= E p r ->
  0 <= l <= 1 -> (l = 1 -> forall y, r y = M -> d y = 0) -> KL d ref <= eps ->
  E d (fun y => ln (1 - l * (r y - c) / (M - c))) - eps <= CE d p - CE d ref.

(** S8. With ref = d the paired change of the loss, log d - log tilt, has mean DeltaL and variance
    s^2 Var_d(r) under d. *)
Definition S8_paired_change : Prop :=
  forall (Y : finType) (d r : Y -> R) (beta : R), law d -> 0 < beta ->
  let change := fun y => ln (d y) - ln (tilt d r beta y) in
  E d change = CE d (tilt d r beta) - CE d d /\ Var d change = Var d r / beta ^ 2.

(** S8. If r is not constant on the support of d, the number of samples n = z^2 Var/mean^2 that puts the
    mean z standard errors above zero is at least 64 z^2 Var_d(r)/(s^2 R^4), R the range on the support. *)
Definition S8_samples : Prop :=
  forall (Y : finType) (d r : Y -> R) (beta m M z : R),
  law d -> 0 < beta -> (forall y, 0 < d y -> m <= r y <= M) ->
  (exists y y', 0 < d y /\ 0 < d y' /\ r y <> r y') -> m < M ->
  let change := fun y => ln (d y) - ln (tilt d r beta y) in
  let n := z ^ 2 * Var d change / E d change ^ 2 in
  0 < E d change /\ 64 * z ^ 2 * beta ^ 2 * Var d r / (M - m) ^ 4 <= n.

(** S8. Per token, at mean length T, the change is at most s^2 R^2/(8 T). *)
Definition S8_per_token : Prop :=
  forall (Y : finType) (d r : Y -> R) (beta m M T : R),
  law d -> 0 < beta -> (forall y, 0 < d y -> m <= r y <= M) -> 0 < T ->
  (CE d (tilt d r beta) - CE d d) / T <= (M - m) ^ 2 / (8 * beta ^ 2 * T).

(** ** RL, then SFT *)

(** R1. Regularised reward: J_b(tilt) - J_b(p) = beta KL(p‖tilt) for every p. *)
Definition R1_regularised_reward : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta : R),
  law p -> law ref -> p ≪ ref -> 0 < beta ->
  J_b (tilt ref r beta) ref r beta - J_b p ref r beta = beta * KL p (tilt ref r beta).

(** R1. If a <= KL(p‖tilt) <= A, the drop lies in [beta a, beta A]. *)
Definition R1_drop_bounds : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta a A : R),
  law p -> law ref -> p ≪ ref -> 0 < beta ->
  a <= KL p (tilt ref r beta) <= A ->
  beta * a <= J_b (tilt ref r beta) ref r beta - J_b p ref r beta <= beta * A.

(** R2. Raw reward, three points: J(tilt) - J(p) = beta [KL(p‖tilt) + KL(tilt‖ref) - KL(p‖ref)]. *)
Definition R2_three_points : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta : R),
  law p -> law ref -> p ≪ ref -> 0 < beta ->
  E (tilt ref r beta) r - E p r =
  beta * (KL p (tilt ref r beta) + KL (tilt ref r beta) ref - KL p ref).

(** R2. SFT lowers the raw reward iff KL(p‖ref) < KL(p‖tilt) + KL(tilt‖ref). *)
Definition R2_lowers_iff : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta : R),
  law p -> law ref -> p ≪ ref -> 0 < beta ->
  E p r < E (tilt ref r beta) r <-> KL p ref < KL p (tilt ref r beta) + KL (tilt ref r beta) ref.

(** R3. Raw reward in the KL ball: if KL(p‖ref) <= KL(tilt‖ref) then J(p) <= J(tilt) - beta KL(p‖tilt). *)
Definition R3_kl_ball : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta : R),
  law p -> law ref -> p ≪ ref -> 0 < beta ->
  KL p ref <= KL (tilt ref r beta) ref ->
  E p r <= E (tilt ref r beta) r - beta * KL p (tilt ref r beta).

(** R3. Strict form: in that ball every other policy has a smaller reward. *)
Definition R3_kl_ball_strict : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta : R) (y : Y),
  law p -> law ref -> p ≪ ref -> 0 < beta ->
  KL p ref <= KL (tilt ref r beta) ref -> p y <> tilt ref r beta y ->
  E p r < E (tilt ref r beta) r.

(** R4. Size of the change, Pinsker form: |J(p) - J(tilt)| <= R sqrt(KL(p‖tilt)/2). *)
Definition R4_pinsker : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta m M : R),
  law p -> law ref -> p ≪ ref -> (forall y, m <= r y <= M) ->
  Rabs (E p r - E (tilt ref r beta) r) <= (M - m) * sqrt (KL p (tilt ref r beta) / 2).

(** R4. Bretagnolle-Huber form: |J(p) - J(tilt)| <= R sqrt(1 - e^{-KL(p‖tilt)}). *)
Definition R4_bretagnolle_huber : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta m M : R),
  law p -> law ref -> p ≪ ref ->
  (forall y, m <= r y <= M) ->
  Rabs (E p r - E (tilt ref r beta) r) <= (M - m) * sqrt (1 - exp (- KL p (tilt ref r beta))).

(** R4. Bernstein form for rises: J(p) - J(tilt) <= sqrt(2 A Var_tilt(r)) + (M - J(tilt)) A/3, A =
    KL(p‖tilt). *)
Definition R4_bernstein_rise : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta M : R),
  law p -> law ref -> p ≪ ref -> (forall y, r y <= M) ->
  let t := tilt ref r beta in E t r < M ->
  E p r - E t r <= sqrt (2 * KL p t * Var t r) + (M - E t r) * KL p t / 3.

(** R4. Bernstein form for drops: J(tilt) - J(p) <= sqrt(2 A Var_tilt(r)) + (J(tilt) - m) A/3, A =
    KL(p‖tilt). *)
Definition R4_bernstein_drop : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta m : R),
  law p -> law ref -> p ≪ ref -> (forall y, m <= r y) ->
  let t := tilt ref r beta in m < E t r ->
  E t r - E p r <= sqrt (2 * KL p t * Var t r) + (E t r - m) * KL p t / 3.

(** R4. The four bounds for any law t in place of the tilt. Pinsker form. *)
Definition R4_pinsker_any_law : Prop :=
  forall (Y : finType) (p t r : Y -> R) (m M : R),
  law p -> law t -> p ≪ t -> (forall y, m <= r y <= M) ->
  Rabs (E p r - E t r) <= (M - m) * sqrt (KL p t / 2).

(** R4. Bretagnolle-Huber form for any law t. *)
Definition R4_bretagnolle_huber_any_law : Prop :=
  forall (Y : finType) (p t r : Y -> R) (m M : R),
  law p -> law t -> p ≪ t -> (forall y, m <= r y <= M) ->
  Rabs (E p r - E t r) <= (M - m) * sqrt (1 - exp (- KL p t)).

(** R4. Bernstein form for rises above any law t. *)
Definition R4_bernstein_rise_any_law : Prop :=
  forall (Y : finType) (p t r : Y -> R) (M : R),
  law p -> law t -> p ≪ t -> (forall y, r y <= M) -> E t r < M ->
  E p r - E t r <= sqrt (2 * KL p t * Var t r) + (M - E t r) * KL p t / 3.

(** R4. Bernstein form for drops below any law t. *)
Definition R4_bernstein_drop_any_law : Prop :=
  forall (Y : finType) (p t r : Y -> R) (m : R),
  law p -> law t -> p ≪ t -> (forall y, m <= r y) -> m < E t r ->
  E t r - E p r <= sqrt (2 * KL p t * Var t r) + (E t r - m) * KL p t / 3.

(** R4. Exact extremes: over the ball around tilt_s of radius KL(tilt_{s+t}‖tilt_s), J is largest
    (t > 0) or smallest (t < 0) at tilt_{s+t}. *)
Definition R4_extremes : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (s t : R),
  law p -> law ref -> p ≪ ref ->
  KL p (tilt_at ref r s) <= KL (tilt_at ref r (s + t)) (tilt_at ref r s) ->
  (0 < t -> E p r <= E (tilt_at ref r (s + t)) r) /\
  (t < 0 -> E (tilt_at ref r (s + t)) r <= E p r).

(** R5. (ii) p that moves mass (K y z from y to z) only within level sets of r keeps the reward. *)
Definition R5_level_sets_keep_reward : Prop :=
  forall (Y : finType) (p p' r : Y -> R) (K : Y -> Y -> R),
  (forall y, sum (fun z => K y z) = p y) -> (forall z, sum (fun y => K y z) = p' z) ->
  (forall y z, K y z <> 0 -> r y = r z) -> E p' r = E p r.

(** R5. For every non-constant r some p has J(p) > J(tilt). *)
Definition R5_some_policy_beats_tilt : Prop :=
  forall (Y : finType) (ref r : Y -> R) (beta : R),
  law ref -> 0 < beta ->
  (exists y z, 0 < ref y /\ 0 < ref z /\ r y <> r z) ->
  exists p, law p /\ p ≪ ref /\ E (tilt ref r beta) r < E p r.

(** R6. Cycle law, ref = d: J(tilt) - J(d) = beta [KL(d‖tilt) + KL(tilt‖d)]. *)
Definition R6_cycle_law : Prop :=
  forall (Y : finType) (d r : Y -> R) (beta : R),
  law d -> 0 < beta ->
  E (tilt d r beta) r - E d r = beta * (KL d (tilt d r beta) + KL (tilt d r beta) d).

(** R7. On the mixture path (1 - t) p + t d, J is affine in t. *)
Definition R7_reward_along_mixture : Prop :=
  forall (Y : finType) (p d r : Y -> R) (t : R),
  E (fun y => (1 - t) * p y + t * d y) r = (1 - t) * E p r + t * E d r.

(** R7. On the mixture path from the tilt to d, J_b falls strictly unless d is the tilt. *)
Definition R7_regularised_reward_along_mixture : Prop :=
  forall (Y : finType) (d ref r : Y -> R) (beta t t' : R) (y : Y),
  law d -> law ref ->
  d ≪ ref -> 0 < beta -> 0 <= t < t' -> t' <= 1 -> d y <> tilt ref r beta y ->
  J_b (fun z => (1 - t') * tilt ref r beta z + t' * d z) ref r beta <
  J_b (fun z => (1 - t) * tilt ref r beta z + t * d z) ref r beta.

(** R7. One softmax SFT step of size eta from p changes J by -eta <p - d, p*(r - E_p r)> + o(eta). *)
Definition R7_first_sft_step : Prop :=
  forall (Y : finType) (d theta r : Y -> R),
  law d ->
  let p := softmax theta in
  is_derive (fun eta => E (softmax (fun y => theta y - eta * (p y - d y))) r) 0
            (- sum (fun y => (p y - d y) * (p y * (r y - E p r)))).

(** R8. Approximate RL optimum: J_b(p1) - J_b(p2) = beta [KL(p2‖tilt) - KL(p1‖tilt)]. *)
Definition R8_between_two_policies : Prop :=
  forall (Y : finType) (p1 p2 ref r : Y -> R) (beta : R),
  law p1 -> law p2 -> law ref ->
  p1 ≪ ref -> p2 ≪ ref -> 0 < beta ->
  J_b p1 ref r beta - J_b p2 ref r beta = beta * (KL p2 (tilt ref r beta) - KL p1 (tilt ref r beta)).

(** R8. The drop is guaranteed iff SFT ends farther from the tilt than RL did. *)
Definition R8_drop_iff : Prop :=
  forall (Y : finType) (p1 p2 ref r : Y -> R) (beta : R),
  law p1 -> law p2 -> law ref ->
  p1 ≪ ref -> p2 ≪ ref -> 0 < beta ->
  J_b p2 ref r beta < J_b p1 ref r beta <-> KL p1 (tilt ref r beta) < KL p2 (tilt ref r beta).

(** R8. With RL suboptimality at most delta, the drop is at least beta KL(p2‖tilt) - delta. *)
Definition R8_suboptimal_rl : Prop :=
  forall (Y : finType) (p1 p2 ref r : Y -> R) (beta delta : R),
  law p1 -> law p2 -> law ref ->
  p1 ≪ ref -> p2 ≪ ref -> 0 < beta ->
  J_b (tilt ref r beta) ref r beta - J_b p1 ref r beta <= delta ->
  beta * KL p2 (tilt ref r beta) - delta <= J_b p1 ref r beta - J_b p2 ref r beta.

(** ** Landscape *)

(** P1. PL of the SFT loss: 1/2 ‖p - d‖^2 >= (m/2) KL(d‖p) for m <= min p (p - d is the gradient: F5). *)
Definition P1_pl_sft_loss : Prop :=
  forall (Y : finType) (p d : Y -> R) (m : R),
  law p -> law d -> 0 < m -> (forall y, m <= p y) ->
  m / 2 * KL d p <= 1 / 2 * sum (fun y => (p y - d y) ^ 2).

(** P1. Sharper: KL(d‖p) <= log(1 + ‖p - d‖^2/m). *)
Definition P1_log_form : Prop :=
  forall (Y : finType) (p d : Y -> R) (m : R), law p -> law d -> 0 < m -> (forall y, m <= p y) ->
  KL d p <= ln (1 + sum (fun y => (p y - d y) ^ 2) / m).

(** P2. Sandwich: (m/2) D <= KL(p_theta‖p_theta') <= D/4, D = ‖(theta - theta')_c‖^2, for 0 < m <= min
    over y of both policies. *)
Definition P2_sandwich : Prop :=
  forall (Y : finType) (theta theta' : Y -> R) (m : R),
  inhabited Y -> 0 < m ->
  (forall y, m <= softmax theta y) -> (forall y, m <= softmax theta' y) ->
  let D := centred_sq (fun y => theta' y - theta y) in
  m / 2 * D <= KL (softmax theta) (softmax theta') <= D / 4.

(** P2. At SFT optimality the tilt raises the loss by between (m/2)‖r_c‖^2/beta^2 and ‖r_c‖^2/(4
    beta^2). *)
Definition P2_coupling_sandwich : Prop :=
  forall (Y : finType) (d r : Y -> R) (beta m : R),
  law d -> 0 < beta -> 0 < m -> (forall y, m <= d y) ->
  (forall y, m <= tilt d r beta y) ->
  m / 2 * centred_sq r / beta ^ 2 <= CE d (tilt d r beta) - CE d d <= centred_sq r / (4 * beta ^ 2).

(** P3. The gradient of J_b in the logits is p * (phi - E_p phi), phi = r - beta log(p/ref). *)
Definition P3_gradient : Prop :=
  forall (Y : finType) (theta ref r : Y -> R) (beta : R) (g : Y -> R),
  inhabited Y -> (forall y, 0 < ref y) ->
  let p := softmax theta in
  let phi := fun y => r y - beta * ln (p y / ref y) in
  is_derive (fun eta => J_b (softmax (fun y => theta y + eta * g y)) ref r beta) 0
            (sum (fun y => p y * (phi y - E p phi) * g y)).

(** P3. PL of the regularised reward: 1/2 ‖grad J_b‖^2 >= 2 beta m^2 (J_b(tilt) - J_b(p)) for 0 < m <=
    min p. *)
Definition P3_pl_regularised_reward : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta m : R),
  law p -> law ref -> (forall y, 0 < ref y) ->
  0 < beta -> 0 < m -> (forall y, m <= p y) ->
  let phi := fun y => r y - beta * ln (p y / ref y) in
  2 * beta * m ^ 2 * (J_b (tilt ref r beta) ref r beta - J_b p ref r beta) <=
  1 / 2 * sum (fun y => (p y * (phi y - E p phi)) ^ 2).

(** P3. J_b(tilt) - J_b(p) >= beta (m/2) D, where D is the squared centred difference of the logits
    theta of p and theta' of the tilt, and 0 < m <= both policies. *)
Definition P3_drop_from_tilt : Prop :=
  forall (Y : finType) (theta theta' ref r : Y -> R) (beta m : R),
  law ref -> 0 < beta -> 0 < m ->
  (forall y, 0 < ref y) -> (forall y, tilt ref r beta y = softmax theta' y) ->
  (forall y, m <= softmax theta y) -> (forall y, m <= softmax theta' y) ->
  beta * (m / 2 * centred_sq (fun y => theta' y - theta y)) <=
  J_b (tilt ref r beta) ref r beta - J_b (softmax theta) ref r beta.

(** P4. Exact step identity: L(theta + eta g) - L(theta) = eta <p - d, g> + KL(p_theta‖p_{theta + eta
    g}). *)
Definition P4_step_identity : Prop :=
  forall (Y : finType) (d theta g : Y -> R) (eta : R),
  law d ->
  let p := softmax theta in
  let p' := softmax (fun y => theta y + eta * g y) in
  CE d p' - CE d p = eta * sum (fun y => (p y - d y) * g y) + KL p p'.

(** P4. So the step lowers the SFT loss iff eta <d - p, g> > KL(p_theta‖p_{theta + eta g}). *)
Definition P4_step_improves_iff : Prop :=
  forall (Y : finType) (d theta g : Y -> R) (eta : R),
  law d ->
  let p := softmax theta in
  let p' := softmax (fun y => theta y + eta * g y) in
  CE d p' < CE d p <-> KL p p' < eta * sum (fun y => (d y - p y) * g y).

(** P4. Sufficient: a step eta > 0 with <d - p, g> > eta ‖g_c‖^2/4 lowers the SFT loss. *)
Definition P4_sufficient : Prop :=
  forall (Y : finType) (d theta g : Y -> R) (eta : R),
  law d -> 0 < eta ->
  let p := softmax theta in
  let p' := softmax (fun y => theta y + eta * g y) in
  eta * centred_sq g / 4 < sum (fun y => (d y - p y) * g y) -> CE d p' < CE d p.

(** P4. With rho = cos(d - p, g_c) > 0 it is enough that ‖p - d‖ > eta ‖g_c‖/(4 rho). *)
Definition P4_threshold_gradient : Prop :=
  forall (Y : finType) (d theta g : Y -> R) (eta rho : R),
  law d -> 0 < eta -> 0 < rho -> 0 < centred_sq g ->
  let p := softmax theta in
  let size := sqrt (centred_sq g) in
  let gradient := sqrt (sum (fun y => (p y - d y) ^ 2)) in
  sum (fun y => (d y - p y) * g y) = rho * gradient * size ->
  eta * size / (4 * rho) < gradient ->
  CE d (softmax (fun y => theta y + eta * g y)) < CE d p.

(** P4. Or that L - L* = KL(d‖p) > log(1 + (eta ‖g_c‖/(4 rho))^2/m) for 0 < m <= min p. *)
Definition P4_threshold_excess : Prop :=
  forall (Y : finType) (d theta g : Y -> R) (eta rho m : R),
  law d -> 0 < eta -> 0 < rho -> 0 < centred_sq g -> 0 < m -> (forall y, m <= softmax theta y) ->
  let p := softmax theta in
  let size := sqrt (centred_sq g) in
  sum (fun y => (d y - p y) * g y) = rho * sqrt (sum (fun y => (p y - d y) ^ 2)) * size ->
  ln (1 + (eta * size / (4 * rho)) ^ 2 / m) < KL d p ->
  CE d (softmax (fun y => theta y + eta * g y)) < CE d p.

(** P5. The slope of U(s) = J(tilt_s) - lambda DeltaL(tilt_s) is Var_{tilt_s}(r) - lambda M(s), M(s) =
    J(tilt_s) - J(d). *)
Definition P5_slope : Prop :=
  forall (Y : finType) (d r : Y -> R) (s lambda : R), law d ->
  is_derive (fun s => E (tilt_at d r s) r - lambda * (CE d (tilt_at d r s) - CE d d)) s
            (Var (tilt_at d r s) r - lambda * (E (tilt_at d r s) r - E d r)).

(** P5. U has a maximum over s >= 0 if lambda > 0 and r is not constant on the support of d. *)
Definition P5_maximiser_exists : Prop :=
  forall (Y : finType) (d r : Y -> R) (lambda : R), law d -> 0 < lambda ->
  (exists y z, 0 < d y /\ 0 < d z /\ r y <> r z) ->
  let U := fun s => E (tilt_at d r s) r - lambda * (CE d (tilt_at d r s) - CE d d) in
  exists best, 0 < best /\ forall s, 0 <= s -> U s <= U best.

(** P5. Every maximiser over s >= 0 is positive and stationary: Var_{tilt_s}(r) = lambda M(s). *)
Definition P5_maximiser_stationary : Prop :=
  forall (Y : finType) (d r : Y -> R) (lambda best : R), law d ->
  (exists y z, 0 < d y /\ 0 < d z /\ r y <> r z) -> 0 <= best ->
  let U := fun s => E (tilt_at d r s) r - lambda * (CE d (tilt_at d r s) - CE d d) in
  (forall s, 0 <= s -> U s <= U best) ->
  0 < best /\ Var (tilt_at d r best) r - lambda * (E (tilt_at d r best) r - E d r) = 0.

(** P5. At every stationary time s > 0, with w = M - m for bounds m <= r <= M on the support of d:
    w/(e^{ws} - 1) <= lambda <= w/(1 - e^{-ws}), so log(1 + w/lambda)/w <= s; for lambda > w also
    s <= -log(1 - w/lambda)/w and |s lambda - 1| <= w/(lambda - w), so that s lambda -> 1 as lambda -> inf. *)
Definition P5_stationary_time : Prop :=
  forall (Y : finType) (d r : Y -> R) (s lambda m M : R), law d ->
  (forall y, 0 < d y -> m <= r y <= M) ->
  (exists y z, 0 < d y /\ 0 < d z /\ r y <> r z) -> 0 < s ->
  Var (tilt_at d r s) r - lambda * (E (tilt_at d r s) r - E d r) = 0 ->
  let w := M - m in
  w / (exp (w * s) - 1) <= lambda <= w / (1 - exp (- (w * s))) /\
  ln (1 + w / lambda) / w <= s /\
  (w < lambda -> s <= - ln (1 - w / lambda) / w /\ Rabs (s * lambda - 1) <= w / (lambda - w)).

(** P5. At every stationary time lambda M <= (max r - J)(J - min r), J = J(tilt_s), extremes on the support of d. *)
Definition P5_stationary_reward : Prop :=
  forall (Y : finType) (d r : Y -> R) (s lambda m M : R), law d ->
  (forall y, 0 < d y -> m <= r y <= M) ->
  Var (tilt_at d r s) r - lambda * (E (tilt_at d r s) r - E d r) = 0 ->
  lambda * (E (tilt_at d r s) r - E d r) <=
    (M - E (tilt_at d r s) r) * (E (tilt_at d r s) r - m).

(** P5. The surrogate G(1 - e^{-aT}) - c T^2, c = lambda b, is largest where aT e^{aT} = a^2 G/(2c), which
    is T = W(a^2 G/(2c))/a. *)
Definition P5_surrogate : Prop :=
  forall a c G best T : R, 0 < a -> 0 < c -> 0 < best ->
  a * best * exp (a * best) = a ^ 2 * G / (2 * c) ->
  G * (1 - exp (- (a * T))) - c * T ^ 2 <= G * (1 - exp (- (a * best))) - c * best ^ 2.

(** P6. In the eigenbasis of K, with eigenvalues w >= 0 and a set S of eigenvectors: |cos_K(u,v)| <=
    sqrt((1 - tau_u)(1 - tau_v)) |cos_K inside S| + sqrt(tau_u tau_v), tau the share outside S. *)
Definition P6_inside_and_outside : Prop :=
  forall (I : finType) (S : pred I) (w u v : I -> R), (forall i, 0 <= w i) ->
  let inside := fun x y : I -> R => sum (fun i => (if S i then w i else 0) * x i * y i) in
  let K := fun x y : I -> R => sum (fun i => w i * x i * y i) in
  let tau := fun x : I -> R => sum (fun i => (if ~~ S i then w i else 0) * x i * x i) / K x x in
  0 < inside u u -> 0 < inside v v ->
  Rabs (K u v) / sqrt (K u u * K v v) <=
  sqrt ((1 - tau u) * (1 - tau v)) * (Rabs (inside u v) / sqrt (inside u u * inside v v))
  + sqrt (tau u * tau v).

(** ** Joint training *)

(** J1. Joint optimum: a full-support law p_joint exists that satisfies the first-order condition of
    F(p) = J_b(p) - lambda CE(d,p), here in the form r - beta log(p_joint/ref) + lambda d/p_joint = mu. *)
Definition J1_joint_optimum_exists : Prop :=
  forall (Y : finType) (d ref r : Y -> R) (beta lambda : R),
  law d -> (forall y, 0 < ref y) -> 0 < beta ->
  0 <= lambda ->
  exists joint mu, law joint /\ (forall y, 0 < joint y) /\
  (forall y, r y - beta * ln (joint y / ref y) + lambda * d y / joint y = mu).

(** J1. That p_joint is the only maximiser of F. *)
Definition J1_unique_maximiser : Prop :=
  forall (Y : finType) (p joint d ref r : Y -> R) (beta lambda mu : R),
  law p -> law joint -> law d ->
  (forall y, 0 < ref y) -> (forall y, 0 < joint y) -> d ≪ p -> 0 < beta -> 0 <= lambda ->
  (forall y, r y - beta * ln (joint y / ref y) + lambda * d y / joint y = mu) ->
  J_b p ref r beta - lambda * CE d p <= J_b joint ref r beta - lambda * CE d joint /\
  (J_b p ref r beta - lambda * CE d p = J_b joint ref r beta - lambda * CE d joint <->
   forall y, p y = joint y).

(** J1. Closed form: where d = 0, p_joint = ref e^{(r - mu)/beta}; elsewhere u = lambda d/(beta p_joint)
    solves u + log u = log(lambda d/beta) - (r + beta log ref - mu)/beta, the equation of Wright's omega. *)
Definition J1_closed_form : Prop :=
  forall (Y : finType) (joint d ref r : Y -> R) (beta lambda mu : R) (y : Y),
  (forall y, 0 < ref y) -> (forall y, 0 < joint y) -> 0 < beta -> 0 < lambda ->
  r y - beta * ln (joint y / ref y) + lambda * d y / joint y = mu ->
  (d y = 0 -> joint y = ref y * exp ((r y - mu) / beta)) /\
  (0 < d y -> let u := lambda * d y / (beta * joint y) in
   u + ln u = ln (lambda * d y / beta) - (r y + beta * ln (ref y) - mu) / beta).

(** J1. mu = beta log Z + lambda - beta KL(p_joint‖tilt), between beta log Z and beta log Z + lambda. *)
Definition J1_multiplier : Prop :=
  forall (Y : finType) (joint d ref r : Y -> R) (beta lambda mu : R),
  law joint -> law d -> law ref -> (forall y, 0 < ref y) -> (forall y, 0 < joint y) -> 0 < beta ->
  0 <= lambda ->
  (forall y, r y - beta * ln (joint y / ref y) + lambda * d y / joint y = mu) ->
  mu = beta * ln (Z ref r beta) + lambda - beta * KL joint (tilt ref r beta) /\
  beta * ln (Z ref r beta) <= mu <= beta * ln (Z ref r beta) + lambda.

(** J2. Exact form: F(p_joint) - F(p) = beta KL(p‖p_joint) + lambda E_d[z - 1 - log z], z = p/p_joint,
    where p_joint is the full-support law that satisfies the first-order condition of J1. *)
Definition J2_exact_gap : Prop :=
  forall (Y : finType) (p joint d ref r : Y -> R) (beta lambda mu : R),
  law p -> law joint -> law d ->
  (forall y, 0 < ref y) -> (forall y, 0 < joint y) -> d ≪ p ->
  (forall y, r y - beta * ln (joint y / ref y) + lambda * d y / joint y = mu) ->
  (J_b joint ref r beta - lambda * CE d joint) - (J_b p ref r beta - lambda * CE d p) =
  beta * KL p joint + lambda * E d (fun y => p y / joint y - 1 - ln (p y / joint y)).

(** J2. No free order: J_b(p) - J_b(p_joint) <= lambda [CE(d,p) - CE(d,p_joint)] for every p. *)
Definition J2_no_free_order : Prop :=
  forall (Y : finType) (p joint d ref r : Y -> R) (beta lambda mu : R),
  law p -> law joint -> law d ->
  (forall y, 0 < ref y) -> (forall y, 0 < joint y) -> d ≪ p -> 0 < beta -> 0 <= lambda ->
  (forall y, r y - beta * ln (joint y / ref y) + lambda * d y / joint y = mu) ->
  J_b p ref r beta - J_b joint ref r beta <= lambda * (CE d p - CE d joint).

(** J3. A little SFT: with t the tilt and p_joint the law of J1, CE(d,t) - CE(d,p_joint) lies between
    lambda chi2(d‖p_joint)/(beta + lambda W) and (lambda/beta) chi2(d‖t), and J_b(t) - J_b(p_joint) between
    lambda/2 times the former and lambda/2 times the latter, for every lambda > 0 and W >= max d/p_joint. *)
Definition J3_bounds : Prop :=
  forall (Y : finType) (joint d ref r : Y -> R) (beta lambda mu : R),
  law joint -> law d -> law ref -> (forall y, 0 < ref y) -> (forall y, 0 < joint y) -> 0 < beta ->
  0 < lambda ->
  (forall y, r y - beta * ln (joint y / ref y) + lambda * d y / joint y = mu) ->
  forall W : R, (forall y, d y / joint y <= W) ->
  let t := tilt ref r beta in
  let least := lambda * chi2 d joint / (beta + lambda * W) in
  let most := lambda / beta * chi2 d t in
  least <= CE d t - CE d joint <= most /\
  lambda / 2 * least <= J_b t ref r beta - J_b joint ref r beta <= lambda / 2 * most.

(** J3. Exactly: the saving is (lambda/beta) chi2(d‖p_joint) + KL(p_joint‖t), the cost beta KL(p_joint‖t). *)
Definition J3_exact : Prop :=
  forall (Y : finType) (joint d ref r : Y -> R) (beta lambda mu : R),
  law joint -> law d -> law ref -> (forall y, 0 < ref y) -> (forall y, 0 < joint y) -> 0 < beta ->
  0 < lambda ->
  (forall y, r y - beta * ln (joint y / ref y) + lambda * d y / joint y = mu) ->
  let t := tilt ref r beta in
  CE d t - CE d joint = lambda / beta * chi2 d joint + KL joint t /\
  J_b t ref r beta - J_b joint ref r beta = beta * KL joint t.

(** J3. Sharper: the cost is at most lambda/2 times the saving, and W - 1 may stand for W in its lower bound. *)
Definition J3_sharper : Prop :=
  forall (Y : finType) (joint d ref r : Y -> R) (beta lambda mu : R),
  law joint -> law d -> law ref -> (forall y, 0 < ref y) -> (forall y, 0 < joint y) -> 0 < beta ->
  0 < lambda ->
  (forall y, r y - beta * ln (joint y / ref y) + lambda * d y / joint y = mu) ->
  forall W : R, (forall y, d y / joint y <= W) ->
  let t := tilt ref r beta in
  lambda ^ 2 * chi2 d joint / (2 * (beta + lambda * (W - 1))) <=
    J_b t ref r beta - J_b joint ref r beta <= lambda / 2 * (CE d t - CE d joint).

(** J3. As lambda -> 0: saving = (lambda/beta) chi2(d‖t) + O(lambda^2), cost = (lambda^2/(2 beta)) chi2(d‖t) +
    O(lambda^3), with one constant for all lambda <= beta. *)
Definition J3_expansions : Prop :=
  forall (Y : finType) (d ref r : Y -> R) (beta : R),
  law d -> law ref -> (forall y, 0 < ref y) -> 0 < beta ->
  exists K, forall (joint : Y -> R) (lambda mu : R), law joint -> (forall y, 0 < joint y) ->
  0 < lambda <= beta ->
  (forall y, r y - beta * ln (joint y / ref y) + lambda * d y / joint y = mu) ->
  let t := tilt ref r beta in
  Rabs (CE d t - CE d joint - lambda / beta * chi2 d t) <= K * lambda ^ 2 /\
  Rabs (J_b t ref r beta - J_b joint ref r beta - lambda ^ 2 / (2 * beta) * chi2 d t) <= K * lambda ^ 3.

(** ** Sequences *)

(** F4. Chain rule, two steps: a from p, then b from p' a; q, q' likewise. *)
Definition F4_chain_rule_two_steps : Prop :=
  forall (A B : finType) (p q : A -> R) (p' q' : A -> B -> R),
  law p -> law q -> p ≪ q ->
  (forall a, law (p' a)) -> (forall a, law (q' a)) -> (forall a, p' a ≪ q' a) ->
  KL (fun ab : prod_finType A B => p ab.1 * p' ab.1 ab.2) (fun ab => q ab.1 * q' ab.1 ab.2) =
  KL p q + E p (fun a => KL (p' a) (q' a)).

(** F4. Chain rule for T tokens after the tokens h: KL of sequence laws = sum over t < T of
    E_{y_<t ~ first argument} KL(token laws). [sequence_law p h T] is the product of the token
    probabilities p (h y_<t) y_t, defined by recursion on T above. *)
Definition F4_chain_rule : Prop :=
  forall (V : finType) (p q : list V -> V -> R) (h : list V) (T : nat),
  (forall h, law (p h)) -> (forall h, law (q h)) -> (forall h, p h ≪ q h) ->
  KL (@sequence_law V p h T) (@sequence_law V q h T) =
  sum (fun t : ordinal_finType T => E (@sequence_law V p h t) (fun s =>
    KL (p (h ++ tokens s)) (q (h ++ tokens s)))).

(** ** Worlds that refute "SFT after RL always lowers the raw reward" *)

(** R5. (i) Constant r: some p other than the tilt has the tilt's reward (two responses). *)
Definition R5_constant_reward_refutes : Prop :=
  exists (ref p r : bool_finType -> R) (beta : R),
  law ref /\ law p /\ (forall y, 0 < ref y) /\ 0 < beta /\
  (exists y, p y <> tilt ref r beta y) /\ E p r = E (tilt ref r beta) r.

(** R5. (iii) With KL(p‖ref) > KL(p‖tilt) + KL(tilt‖ref) the reward rises (two responses). *)
Definition R5_reward_can_rise : Prop :=
  exists (ref p r : bool_finType -> R) (beta : R),
  law ref /\ law p /\ (forall y, 0 < ref y) /\ 0 < beta /\
  KL p (tilt ref r beta) + KL (tilt ref r beta) ref < KL p ref /\ E (tilt ref r beta) r < E p r.

(** R7. Refuted: "the first SFT step from the tilt lowers the raw reward". With ref = d and three
    responses, the derivative of J along that step (R7_first_sft_step) is positive at the tilt. *)
Definition R7_first_step_can_raise_reward : Prop :=
  exists (d r : ordinal_finType 3 -> R) (beta : R),
  law d /\ (forall y, 0 < d y) /\ 0 < beta /\
  let p := tilt d r beta in 0 < - sum (fun y => (p y - d y) * (p y * (r y - E p r))).

(** ** Averages over prompts x with law q; each prompt has its own response type [Y x]

    The width w stands for R: the rewards of prompt x lie in [m x, m x + w]. A theorem that does not
    assume [law q] holds for any weights q. *)

(** D1. Exact decoupling: with prompt laws q_SFT and q_RL and ref = d, the loss change of the RL
    optimum that equals ref wherever q_RL = 0 vanishes iff r(x,.) is constant on supp d(.|x) for every x
    in both supports. *)
Definition D1_exact_decoupling : Prop :=
  forall (X : finType) (Y : X -> finType) (q_sft q_rl : X -> R) (d r : forall x, Y x -> R)
    (beta : R),
  law q_sft -> law q_rl -> (forall x, law (d x)) -> 0 < beta ->
  let rl := fun x => if Req_EM_T (q_rl x) 0 then d x else tilt (d x) (r x) beta in
  E q_sft (fun x => CE (d x) (rl x) - CE (d x) (d x)) = 0 <->
  (forall x, 0 < q_sft x -> 0 < q_rl x -> forall y z, 0 < d x y -> 0 < d x z -> r x y = r x z).

(** D1. That policy does maximise the regularised reward averaged over q_RL. *)
Definition D1_rl_optimum : Prop :=
  forall (X : finType) (Y : X -> finType) (q_rl : X -> R) (d r : forall x, Y x -> R) (beta : R)
    (p : forall x, Y x -> R),
  law q_rl -> (forall x, law (d x)) -> (forall x, law (p x)) -> (forall x, p x ≪ d x) -> 0 < beta ->
  let rl := fun x => if Req_EM_T (q_rl x) 0 then d x else tilt (d x) (r x) beta in
  E q_rl (fun x => J_b (p x) (d x) (r x) beta) <= E q_rl (fun x => J_b (rl x) (d x) (r x) beta).

(** D1. Disjoint prompts decouple a tabular policy. *)
Definition D1_disjoint_prompts : Prop :=
  forall (X : finType) (Y : X -> finType) (q_sft q_rl : X -> R) (d r : forall x, Y x -> R)
    (beta : R),
  law q_sft -> law q_rl -> (forall x, law (d x)) -> 0 < beta -> (forall x, q_sft x = 0 \/ q_rl x = 0) ->
  let rl := fun x => if Req_EM_T (q_rl x) 0 then d x else tilt (d x) (r x) beta in
  E q_sft (fun x => CE (d x) (rl x) - CE (d x) (d x)) = 0.

(** F3 (averaged). J_b(tilt) - J_b(p) = beta E_q KL(p‖tilt); J_b(tilt) = beta E_q log Z. *)
Definition F3_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (p ref r : forall x, Y x -> R) (beta : R),
  law q -> 0 < beta -> laws p -> laws ref -> p ≪≪ ref ->
  J_bq q (tilts ref r beta) ref r beta - J_bq q p ref r beta = beta * KLq q p (tilts ref r beta) /\
  J_bq q (tilts ref r beta) ref r beta = beta * logZ q ref r beta.

(** F3 (averaged). max J_b = beta E_q log Z, at the tilt only (on every prompt that q gives mass). *)
Definition F3_unique_maximiser_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (p ref r : forall x, Y x -> R) (beta : R),
  law q -> 0 < beta -> laws p -> laws ref ->
  p ≪≪ ref ->
  J_bq q p ref r beta <= beta * logZ q ref r beta /\
  (J_bq q p ref r beta = beta * logZ q ref r beta <->
   forall x, 0 < q x -> forall y, p x y = tilts ref r beta x y).

(** S1 (averaged). DeltaL(tilt) = E_q log Z - J(d)/beta. *)
Definition S1_exact_change_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (d ref r : forall x, Y x -> R) (beta : R),
  laws d -> laws ref -> d ≪≪ ref ->
  Lq q d (tilts ref r beta) - Lq q d ref = logZ q ref r beta - J q d r / beta.

(** S2 (averaged). With ref = d: DeltaL(tilt) = E_q log Z - J(d)/beta = E_q KL(d‖tilt). *)
Definition S2_coupling_gap_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (d r : forall x, Y x -> R) (beta : R),
  law q -> laws d ->
  Lq q d (tilts d r beta) - Lq q d d = logZ q d r beta - J q d r / beta /\
  Lq q d (tilts d r beta) - Lq q d d = KLq q d (tilts d r beta).

(** S2 (averaged). DeltaL(tilt) >= 0, = 0 iff r(x,.) is constant on supp d(.|x) for every x with q(x) >
    0. *)
Definition S2_coupling_at_sft_optimality_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (d r : forall x, Y x -> R) (beta : R),
  law q -> 0 < beta -> laws d ->
  0 <= Lq q d (tilts d r beta) - Lq q d d /\
  (Lq q d (tilts d r beta) - Lq q d d = 0 <->
   forall x, 0 < q x -> forall y z, 0 < d x y -> 0 < d x z -> r x y = r x z).

(** S3 (averaged). DeltaL <= s^2 R^2/8. *)
Definition S3_hoeffding_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (d r : forall x, Y x -> R) (m : X -> R) (w
    beta : R),
  law q -> 0 < beta -> laws d ->
  (forall x y, m x <= r x y <= m x + w) ->
  Lq q d (tilts d r beta) - Lq q d d <= w ^ 2 / (8 * beta ^ 2).

(** S4 (averaged). The SFT loss of tilt_s is nondecreasing in s. *)
Definition S4_monotone_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (d r : forall x, Y x -> R) (s t : R),
  law q -> laws d -> 0 <= s <= t ->
  Lq q d (fun x => tilt_at (d x) (r x) s) <= Lq q d (fun x => tilt_at (d x) (r x) t).

(** S5 (averaged, Pinsker form). With ref = d, any policy has DeltaL(p) >= 2 (J(p) - J(d))^2/R^2. *)
Definition S5_price_of_reward_pinsker_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (d p r : forall x, Y x -> R) (m : X -> R)
    (w : R),
  law q -> laws d -> laws p -> d ≪≪ p ->
  (forall x y, m x <= r x y <= m x + w) -> 0 < w ->
  2 * (J q p r - J q d r) ^ 2 / w ^ 2 <= Lq q d p - Lq q d d.

(** S5 (averaged). Dual bound with a target, an upper bound and a dual variable for each prompt. *)
Definition S5_price_of_reward_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (d p r : forall x, Y x -> R) (c M l : X ->
    R),
  law q -> laws d -> laws p -> d ≪≪ p ->
  (forall x y, r x y <= M x) -> (forall x, c x < M x) -> (forall x, c x <= E (p x) (r x)) ->
  (forall x, 0 <= l x < 1) ->
  E q (fun x => E (d x) (fun y => ln (1 - l x * (r x y - c x) / (M x - c x)))) <= KLq q d p.

(** S6 (averaged). DeltaL(tilt) = E_q KL(ref‖tilt) - (J(d) - J(ref))/beta. *)
Definition S6_identity_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (d ref r : forall x, Y x -> R) (beta : R),
  0 < beta -> laws d -> laws ref -> d ≪≪ ref ->
  Lq q d (tilts ref r beta) - Lq q d ref = KLq q ref (tilts ref r beta) - (J q d r - J q ref r) / beta.

(** S6 (averaged). RL to the tilt lowers the SFT loss iff J(d) > beta E_q log Z. *)
Definition S6_lowers_iff_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (d ref r : forall x, Y x -> R) (beta : R),
  0 < beta -> laws d -> laws ref -> d ≪≪ ref ->
  Lq q d (tilts ref r beta) < Lq q d ref <-> beta * logZ q ref r beta < J q d r.

(** S6 (averaged). DeltaL > 0 whenever E_q KL(d‖ref) < 2 (beta E_q KL(ref‖tilt)/R)^2. *)
Definition S6_threshold_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (d ref r : forall x, Y x -> R) (m : X -> R)
    (w beta : R),
  law q -> 0 < beta -> laws d -> laws ref -> d ≪≪ ref ->
  (forall x y, m x <= r x y <= m x + w) -> 0 < w ->
  KLq q d ref < 2 * (beta * KLq q ref (tilts ref r beta) / w) ^ 2 ->
  Lq q d ref < Lq q d (tilts ref r beta).

(** S6 (averaged). Exact radius: DeltaL > 0 whenever E_q KL(d‖ref) < E_q KL(tilt_t‖ref), for a t > 0
    that solves J(tilt_t) = beta E_q log Z. (That such a t exists is proved for one prompt only.) *)
Definition S6_exact_radius_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (d ref r : forall x, Y x -> R) (beta
    t : R),
  law q -> 0 < beta ->
  laws d -> laws ref -> d ≪≪ ref -> 0 < t ->
  J q (fun x => tilt_at (ref x) (r x) t) r = beta * logZ q ref r beta ->
  KLq q d ref < KLq q (fun x => tilt_at (ref x) (r x) t) ref ->
  Lq q d ref < Lq q d (tilts ref r beta).

(** S7 (averaged). DeltaL(p) >= E_q K_inf(d_x, c_x) - eps with c_x <= J_x(p), each dual value (S5) in
    place of K_inf. *)
Definition S7_approximate_optimum_dual_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (d p ref r : forall x, Y x -> R) (c M l : X
    -> R) (eps : R),
  law q ->
  laws d -> laws p -> laws ref -> d ≪≪ p -> d ≪≪ ref ->
  (forall x y, r x y <= M x) -> (forall x, c x < M x) -> (forall x, c x <= E (p x) (r x)) ->
  (forall x, 0 <= l x < 1) -> KLq q d ref <= eps ->
  E q (fun x => E (d x) (fun y => ln (1 - l x * (r x y - c x) / (M x - c x)))) - eps <= Lq q d p
    - Lq q d ref.

(** S7 (averaged). E_q KL(d‖ref) <= eps implies J(p) <= J(d) + R sqrt((eps + DeltaL(p))/2). *)
Definition S7_approximate_optimum_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (d p ref r : forall x, Y x -> R) (m : X ->
    R) (w eps : R),
  law q -> laws d -> laws p -> laws ref ->
  d ≪≪ p -> d ≪≪ ref ->
  (forall x y, m x <= r x y <= m x + w) -> KLq q d ref <= eps ->
  J q p r <= J q d r + w * sqrt ((eps + (Lq q d p - Lq q d ref)) / 2).

(** R1 (averaged). If a <= E_q KL(p‖tilt) <= A, the drop of J_b lies in [beta a, beta A]. *)
Definition R1_drop_bounds_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (p ref r : forall x, Y x -> R) (a A
    beta : R),
  law q -> 0 < beta -> laws p -> laws ref ->
  p ≪≪ ref -> a <= KLq q p (tilts ref r beta) <= A ->
  beta * a <= J_bq q (tilts ref r beta) ref r beta - J_bq q p ref r beta <= beta * A.

(** R2 (averaged). J(tilt) - J(p) = beta E_q [KL(p‖tilt) + KL(tilt‖ref) - KL(p‖ref)]. *)
Definition R2_three_points_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (p ref r : forall x, Y x -> R) (beta : R),
  0 < beta -> laws p -> laws ref -> p ≪≪ ref ->
  J q (tilts ref r beta) r - J q p r =
  beta * (KLq q p (tilts ref r beta) + KLq q (tilts ref r beta) ref - KLq q p ref).

(** R2 (averaged). SFT lowers J iff E_q KL(p‖ref) < E_q KL(p‖tilt) + E_q KL(tilt‖ref). *)
Definition R2_lowers_iff_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (p ref r : forall x, Y x -> R) (beta : R),
  0 < beta -> laws p -> laws ref -> p ≪≪ ref ->
  J q p r < J q (tilts ref r beta) r <-> KLq q p ref < KLq q p (tilts ref r beta) + KLq q (tilts ref r beta) ref.

(** R3 (averaged). If E_q KL(p‖ref) <= E_q KL(tilt‖ref) then J(p) <= J(tilt) - beta E_q KL(p‖tilt),
    strictly below J(tilt) when p differs from the tilt on a prompt with q(x) > 0. *)
Definition R3_kl_ball_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (p ref r : forall x, Y x -> R) (beta : R),
  law q -> 0 < beta -> laws p -> laws ref -> p ≪≪ ref ->
  KLq q p ref <= KLq q (tilts ref r beta) ref ->
  J q p r <= J q (tilts ref r beta) r - beta * KLq q p (tilts ref r beta) /\
  (forall x y, 0 < q x -> p x y <> tilts ref r beta x y -> J q p r < J q (tilts ref r beta) r).

(** R4 (averaged, Pinsker form). |J(p) - J(tilt)| <= R sqrt(E_q KL(p‖tilt)/2). *)
Definition R4_pinsker_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (p ref r : forall x, Y x -> R) (m : X -> R)
    (w beta : R),
  law q -> laws p -> laws ref -> p ≪≪ ref ->
  (forall x y, m x <= r x y <= m x + w) ->
  Rabs (J q p r - J q (tilts ref r beta) r) <= w * sqrt (KLq q p (tilts ref r beta) / 2).

(** R4 (averaged, Bretagnolle-Huber form). |J(p) - J(tilt)| <= R sqrt(1 - e^{-E_q KL(p‖tilt)}). *)
Definition R4_bretagnolle_huber_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (p ref r : forall x, Y x -> R) (m : X -> R)
    (w beta : R),
  law q -> laws p -> laws ref -> p ≪≪ ref ->
  (forall x y, m x <= r x y <= m x + w) ->
  Rabs (J q p r - J q (tilts ref r beta) r) <= w * sqrt (1 - exp (- KLq q p (tilts ref r beta))).

(** R6 (averaged). ref = d: J(tilt) - J(d) = beta E_q [KL(d‖tilt) + KL(tilt‖d)]. *)
Definition R6_cycle_law_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (d r : forall x, Y x -> R) (beta : R),
  0 < beta -> laws d ->
  J q (tilts d r beta) r - J q d r = beta * (KLq q d (tilts d r beta) + KLq q (tilts d r beta) d).

(** R8 (averaged). J_b(p1) - J_b(p2) = beta E_q [KL(p2‖tilt) - KL(p1‖tilt)]. *)
Definition R8_between_two_policies_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (p1 p2 ref r : forall x, Y x -> R)
    (beta : R),
  law q -> 0 < beta ->
  laws p1 -> laws p2 -> laws ref -> p1 ≪≪ ref -> p2 ≪≪ ref ->
  J_bq q p1 ref r beta - J_bq q p2 ref r beta =
  beta * (KLq q p2 (tilts ref r beta) - KLq q p1 (tilts ref r beta)).

(** R8 (averaged). With RL suboptimality at most delta, the drop is at least beta E_q KL(p2‖tilt) -
    delta. *)
Definition R8_suboptimal_rl_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (p1 p2 ref r : forall x, Y x -> R) (beta
    delta : R),
  law q ->
  0 < beta -> laws p1 -> laws p2 -> laws ref -> p1 ≪≪ ref -> p2 ≪≪ ref ->
  J_bq q (tilts ref r beta) ref r beta - J_bq q p1 ref r beta <= delta ->
  beta * KLq q p2 (tilts ref r beta) - delta <= J_bq q p1 ref r beta - J_bq q p2 ref r beta.

(** P1 (averaged). The gradient of the averaged loss carries q(x): 1/2 sum_x q(x)^2 ‖p_x - d_x‖^2 >=
    (q_min m/2) E_q KL(d‖p), with q_min <= q and m <= p. *)
Definition P1_pl_sft_loss_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (p d : forall x, Y x -> R) (m0 q_min : R),
  laws p -> laws d -> 0 < m0 ->
  (forall x y, m0 <= p x y) ->
  0 <= q_min -> (forall x, q_min <= q x) ->
  q_min * m0 / 2 * KLq q d p <= 1 / 2 * sum (fun x => q x ^ 2 * sum (fun y => (p x y - d x y) ^ 2)).

(** J2 (averaged). J_b(p) - J_b(p_joint) <= lambda [CE(d,p) - CE(d,p_joint)] for every p, all four
    averaged. *)
Definition J2_no_free_order_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (p joint d ref r : forall x, Y x -> R)
    (mu : X -> R) (lambda beta : R),
  law q -> 0 < beta -> laws p -> laws joint -> laws d -> (forall x y, 0 < ref x y) ->
  (forall x y, 0 < joint x y) -> d ≪≪ p -> 0 <= lambda ->
  (forall x y, r x y - beta * ln (joint x y / ref x y) + lambda * d x y / joint x y = mu x) ->
  J_bq q p ref r beta - J_bq q joint ref r beta <= lambda * (Lq q d p - Lq q d joint).

(** ** Second chapter: what trainers converge to, and what it costs *)

(** S9. Overpayment: for any p and any l with 1 - l w > 0 on supp d, KL(d‖p) is the dual value of l (S5)
    and three terms: E_d[z - 1 - log z], l (J(p) - c)/(M - c), E_p[1_{d=0} (1 - l w)]. *)
Definition S9_overpayment_identity : Prop :=
  forall (Y : finType) (d p r : Y -> R) (c M l : R),
  law d -> law p -> d ≪ p -> c < M ->
  (forall y, 0 < d y -> 0 < 1 - l * (r y - c) / (M - c)) ->
  let h := fun y => 1 - l * (r y - c) / (M - c) in
  let z := fun y => p y * h y / d y in
  KL d p - E d (fun y => ln (h y)) =
  E d (fun y => z y - 1 - ln (z y)) + l * (E p r - c) / (M - c) +
  E p (fun y => (if Req_EM_T (d y) 0 then 1 else 0) * h y).

(** S9. For M = max r and J(d) < c < M some l (that of S5) makes, for every p with J(p) = c, the
    middle term 0 and the others >= 0; p overpays nothing iff p (1 - l w) = d, iff no policy with at
    least that reward has a smaller KL(d‖.), that is iff p is a frontier policy. *)
Definition S9_zero_iff_frontier : Prop :=
  forall (Y : finType) (d r : Y -> R) (c M : R) (y0 : Y),
  law d -> (forall y, r y <= M) -> r y0 = M -> E d r < c ->
  c < M -> exists l, 0 <= l <= 1 /\ forall p, law p -> d ≪ p -> E p r = c ->
  let h := fun y => 1 - l * (r y - c) / (M - c) in
  let z := fun y => p y * h y / d y in
  let first := E d (fun y => z y - 1 - ln (z y)) in
  let last := E p (fun y => (if Req_EM_T (d y) 0 then 1 else 0) * h y) in
  KL d p - E d (fun y => ln (h y)) = first + last /\ 0 <= first /\ 0 <= last /\
  (first + last = 0 <-> forall y, p y * h y = d y) /\
  (first + last = 0 <-> forall p', law p' -> d ≪ p' -> c <= E p' r -> KL d p <= KL d p').

(** S10. What a run's logs prove: (J(p) - J(d))/beta - KL(p‖ref) = DeltaL(tilt) - KL(p‖tilt). *)
Definition S10_identity : Prop :=
  forall (Y : finType) (d p ref r : Y -> R) (beta : R),
  law d -> law p -> law ref -> d ≪ ref -> p ≪ ref ->
  (E p r - E d r) / beta - KL p ref = CE d (tilt ref r beta) - CE d ref - KL p (tilt ref r beta).

(** S10. So it is at most DeltaL(tilt), with equality at the tilt only. *)
Definition S10_lower_bound : Prop :=
  forall (Y : finType) (d p ref r : Y -> R) (beta : R),
  law d -> law p -> law ref -> d ≪ ref -> p ≪ ref ->
  (E p r - E d r) / beta - KL p ref <= CE d (tilt ref r beta) - CE d ref /\
  ((E p r - E d r) / beta - KL p ref = CE d (tilt ref r beta) - CE d ref <->
   forall y, p y = tilt ref r beta y).

(** S10. In s = 1/beta every checkpoint is an affine minorant of DeltaL(tilt_s), met at p = tilt_s. *)
Definition S10_affine_minorant : Prop :=
  forall (Y : finType) (d p ref r : Y -> R) (s : R),
  law d -> law p -> law ref -> d ≪ ref -> p ≪ ref ->
  s * (E p r - E d r) - KL p ref <= CE d (tilt_at ref r s) - CE d ref /\
  ((forall y, p y = tilt_at ref r s y) ->
   s * (E p r - E d r) - KL p ref = CE d (tilt_at ref r s) - CE d ref).

(** S10. s -> DeltaL(tilt_s) is convex, for every d ≪ ref. *)
Definition S10_convex : Prop :=
  forall (Y : finType) (d ref r : Y -> R) (s : R) (u t : R),
  law d -> law ref -> d ≪ ref -> 0 <= t <= 1 ->
  let f := fun s => CE d (tilt_at ref r s) - CE d ref in
  f ((1 - t) * s + t * u) <= (1 - t) * f s + t * f u.

(** S10. If J(p) - J(d) > beta KL(p‖ref), the exact optimum at beta raises the SFT loss. *)
Definition S10_run_raises_loss : Prop :=
  forall (Y : finType) (d p ref r : Y -> R) (beta : R),
  law d -> law p -> law ref -> d ≪ ref -> p ≪ ref ->
  0 < beta -> beta * KL p ref < E p r - E d r -> CE d ref < CE d (tilt ref r beta).

(** V1. Verifiable rewards, r = 1 on A and 0 outside: in log-odds the tilt adds 1/beta to ref(A). *)
Definition V1_logit : Prop :=
  forall (Y : finType) (A : Y -> bool) (ref : Y -> R) (beta : R),
  law ref ->
  let r := fun y => if A y then 1 else 0 in
  let a := E ref r in let c := E (tilt ref r beta) r in
  0 < a < 1 -> 0 < c < 1 /\ ln (c / (1 - c)) = ln (a / (1 - a)) + / beta.

(** V1. The beta that reaches the success rate c in (ref(A), 1). *)
Definition V1_beta_for_target : Prop :=
  forall (Y : finType) (A : Y -> bool) (ref : Y -> R) (c : R),
  law ref ->
  let r := fun y => if A y then 1 else 0 in
  let a := E ref r in
  0 < a -> a < c < 1 ->
  let beta := / (ln (c / (1 - c)) - ln (a / (1 - a))) in
  0 < beta /\ E (tilt ref r beta) r = c.

(** V1. With ref = d the tilt costs kl(ref(A), tilt(A)), and no policy with its success costs less. *)
Definition V1_cost_is_price : Prop :=
  forall (Y : finType) (A : Y -> bool) (d : Y -> R) (beta : R),
  law d ->
  let r := fun y => if A y then 1 else 0 in
  let a := E d r in let c := E (tilt d r beta) r in
  let kl := a * ln (a / c) + (1 - a) * ln ((1 - a) / (1 - c)) in
  0 < a < 1 -> 0 < beta ->
  CE d (tilt d r beta) - CE d d = kl /\
  (forall p, law p -> d ≪ p -> c <= E p r -> kl <= KL d p).

(** V1. Chain rule: KL(p‖ref) = kl(p(A), ref(A)) + p(A) KL(p_A‖ref_A) + (1 - p(A)) KL of the conditional
    laws outside A. (If p(A) is 0 or 1, the term without a conditional law is 0.) *)
Definition V1_chain_rule : Prop :=
  forall (Y : finType) (A : Y -> bool) (p ref : Y -> R),
  law p -> law ref -> p ≪ ref ->
  let r := fun y => if A y then 1 else 0 in
  0 < E ref r < 1 ->
  let on := fun q y => if A y then q y / E q r else 0 in
  let off := fun q y => if A y then 0 else q y / (1 - E q r) in
  let c := E p r in let a := E ref r in
  KL p ref = c * ln (c / a) + (1 - c) * ln ((1 - c) / (1 - a)) +
             c * KL (on p) (on ref) + (1 - c) * KL (off p) (off ref).

(** V1. The least KL at success c = p(A) is kl(c, ref(A)), for unchanged conditional laws only. *)
Definition V1_least_KL : Prop :=
  forall (Y : finType) (A : Y -> bool) (p ref : Y -> R),
  law p -> law ref -> p ≪ ref ->
  let r := fun y => if A y then 1 else 0 in
  let c := E p r in let a := E ref r in
  let kl := c * ln (c / a) + (1 - c) * ln ((1 - c) / (1 - a)) in
  0 < a < 1 ->
  kl <= KL p ref /\
  (KL p ref = kl <-> forall y, p y = if A y then c / a * ref y else (1 - c) / (1 - a) * ref y).

(** V1. For every c in [0, 1] that policy exists. *)
Definition V1_least_KL_attained : Prop :=
  forall (Y : finType) (A : Y -> bool) (ref : Y -> R) (c : R),
  law ref ->
  let r := fun y => if A y then 1 else 0 in
  let a := E ref r in
  let q := fun y => if A y then c / a * ref y else (1 - c) / (1 - a) * ref y in
  0 < a < 1 -> 0 <= c <= 1 -> law q /\ E q r = c.

(** V1. The tilt, where natural gradient ends, is the policy of least KL at its success rate. *)
Definition V1_tilt_has_least_KL : Prop :=
  forall (Y : finType) (A : Y -> bool) (ref : Y -> R) (beta : R) (y : Y),
  law ref ->
  let r := fun y => if A y then 1 else 0 in
  let a := E ref r in
  0 < a < 1 ->
  let c := E (tilt ref r beta) r in
  tilt ref r beta y = if A y then c / a * ref y else (1 - c) / (1 - a) * ref y.

(** V1. pass@k rises at the exact optimum, at every prompt with success strictly between 0 and 1. *)
Definition V1_pass_at_k : Prop :=
  forall (Y : finType) (A : Y -> bool) (ref : Y -> R) (beta : R) (k : nat),
  law ref ->
  let r := fun y => if A y then 1 else 0 in
  0 < E ref r < 1 -> 0 < beta -> (0 < k)%nat ->
  1 - (1 - E ref r) ^ k < 1 - (1 - E (tilt ref r beta) r) ^ k.

(** G1. Proxy and gold: d/ds E_{tilt_s} g = Cov_{tilt_s}(g, r). *)
Definition G1_covariance : Prop :=
  forall (Y : finType) (ref r g : Y -> R) (s : R),
  law ref ->
  let t := tilt_at ref r s in
  is_derive (fun s => E (tilt_at ref r s) g) s (E t (fun y => (g y - E t g) * (r y - E t r))).

(** G1. While the covariance is positive the gold reward rises: it can turn only where it vanishes. *)
Definition G1_gold_rises : Prop :=
  forall (Y : finType) (ref r g : Y -> R) (s s' : R),
  law ref -> s < s' ->
  (forall u, s <= u <= s' ->
   let t := tilt_at ref r u in 0 < E t (fun y => (g y - E t g) * (r y - E t r))) ->
  E (tilt_at ref r s) g < E (tilt_at ref r s') g.

(** G1. Any p: J_g(p) - J_g(ref) >= J_r(p) - J_r(ref) - range(r - g) sqrt(KL(p‖ref)/2). *)
Definition G1_gold_gain : Prop :=
  forall (Y : finType) (p ref r g : Y -> R) (m M : R),
  law p -> law ref -> p ≪ ref -> (forall y, m <= r y - g y <= M) ->
  E p r - E ref r - (M - m) * sqrt (KL p ref / 2) <= E p g - E ref g.

(** G1. Sharper: kl(E_p f, E_ref f) <= KL(p‖ref) for any f in [0, 1], such as (r - g - min)/range. *)
Definition G1_sharper : Prop :=
  forall (Y : finType) (p ref f : Y -> R),
  law p -> law ref -> p ≪ ref -> (forall y, 0 <= f y <= 1) ->
  let c := E p f in let a := E ref f in
  0 < a < 1 -> c * ln (c / a) + (1 - c) * ln ((1 - c) / (1 - a)) <= KL p ref.

(** T1. Gradients are derivatives along the logits theta + eta g, for every direction g; g - E_p g is the
    score. Any f of u = log(p/ref): grad E_p f(u) = E_p[(f + f')(u) grad log p]. *)
Definition T1_gradient_of_expectation : Prop :=
  forall (Y : finType) (theta g ref : Y -> R) (f f' : R -> R),
  inhabited Y -> (forall y, 0 < ref y) ->
  (forall x, is_derive f x (f' x)) ->
  let p := softmax theta in
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  is_derive (fun eta => E (p_at eta) (fun y => f (ln (p_at eta y / ref y)))) 0
    (E p (fun y => (f (ln (p y / ref y)) + f' (ln (p y / ref y))) * (g y - E p g))).

(** T1. k1 = u in the loss (differentiated at held samples y, then averaged) trains nothing. *)
Definition T1_k1_in_loss : Prop :=
  forall (Y : finType) (theta g ref : Y -> R),
  inhabited Y -> (forall y, 0 < ref y) ->
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  exists G : Y -> R, (forall y, is_derive (fun eta => ln (p_at eta y / ref y)) 0 (G y)) /\
  E (softmax theta) G = 0.

(** T1. k2 = u^2/2 in the loss trains KL(p‖ref). *)
Definition T1_k2_in_loss : Prop :=
  forall (Y : finType) (theta g ref : Y -> R),
  inhabited Y -> (forall y, 0 < ref y) ->
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  exists G : Y -> R, (forall y, is_derive (fun eta => ln (p_at eta y / ref y) ^ 2 / 2) 0 (G y)) /\
  is_derive (fun eta => KL (p_at eta) ref) 0 (E (softmax theta) G).

(** T1. k3 = e^{-u} - 1 + u in the loss trains KL(ref‖p). *)
Definition T1_k3_in_loss : Prop :=
  forall (Y : finType) (theta g ref : Y -> R),
  inhabited Y -> (forall y, 0 < ref y) ->
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  exists G : Y -> R,
  (forall y, is_derive (fun eta => let u := ln (p_at eta y / ref y) in exp (- u) - 1 + u) 0 (G y)) /\
  is_derive (fun eta => KL ref (p_at eta)) 0 (E (softmax theta) G).

(** T1. In the reward, E_p[k grad log p]: k1 trains KL(p‖ref). *)
Definition T1_k1_in_reward : Prop :=
  forall (Y : finType) (theta g ref : Y -> R),
  inhabited Y -> (forall y, 0 < ref y) ->
  let p := softmax theta in
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  is_derive (fun eta => KL (p_at eta) ref) 0 (E p (fun y => ln (p y / ref y) * (g y - E p g))).

(** T1. In the reward, k2 trains E_p[u^2/2 - u]. *)
Definition T1_k2_in_reward : Prop :=
  forall (Y : finType) (theta g ref : Y -> R),
  inhabited Y -> (forall y, 0 < ref y) ->
  let p := softmax theta in
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  is_derive (fun eta => E (p_at eta) (fun y => let u := ln (p_at eta y / ref y) in u ^ 2 / 2 - u)) 0
    (E p (fun y => ln (p y / ref y) ^ 2 / 2 * (g y - E p g))).

(** T1. In the reward, k3 trains KL(p‖ref) - KL(ref‖p). *)
Definition T1_k3_in_reward : Prop :=
  forall (Y : finType) (theta g ref : Y -> R),
  inhabited Y -> (forall y, 0 < ref y) ->
  let p := softmax theta in
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  is_derive (fun eta => KL (p_at eta) ref - KL ref (p_at eta)) 0
    (E p (fun y => (exp (- ln (p y / ref y)) - 1 + ln (p y / ref y)) * (g y - E p g))).

(** T1. Times the differentiable ratio, any k = f(u) trains E_p[k]. *)
Definition T1_any_k_times_ratio : Prop :=
  forall (Y : finType) (theta g ref : Y -> R) (f f' : R -> R),
  inhabited Y -> (forall y, 0 < ref y) ->
  (forall x, is_derive f x (f' x)) ->
  let p := softmax theta in
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  exists G : Y -> R,
  (forall y, is_derive (fun eta => p_at eta y / p y * f (ln (p_at eta y / ref y))) 0 (G y)) /\
  is_derive (fun eta => E (p_at eta) (fun y => f (ln (p_at eta y / ref y)))) 0 (E p G).

(** T2. k3 in the loss, O(p) = J(p) - beta KL(ref‖p): a mu > max r makes p* = beta ref/(mu - r) a law. *)
Definition T2_mu_exists : Prop :=
  forall (Y : finType) (ref r : Y -> R) (beta : R),
  law ref -> (forall y, 0 < ref y) -> 0 < beta ->
  exists mu, (forall y, r y < mu) /\ sum (fun y => beta * ref y / (mu - r y)) = 1.

(** T2. J(p* ) = mu - beta, and O(p* ) - O(p) = beta E_ref[z - 1 - log z], z = p/p*. *)
Definition T2_identity : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta mu : R),
  law p -> law ref -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta -> (forall y, r y < mu) ->
  let opt := fun y => beta * ref y / (mu - r y) in
  sum opt = 1 ->
  let z := fun y => p y / opt y in
  E opt r = mu - beta /\
  (E opt r - beta * KL ref opt) - (E p r - beta * KL ref p) = beta * E ref (fun y => z y - 1 - ln (z y)).

(** T2. p* is the only maximiser of O among the full-support policies. *)
Definition T2_unique_maximiser : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta mu : R),
  law p -> law ref -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta -> (forall y, r y < mu) ->
  let opt := fun y => beta * ref y / (mu - r y) in
  sum opt = 1 ->
  E p r - beta * KL ref p <= E opt r - beta * KL ref opt /\
  (E p r - beta * KL ref p = E opt r - beta * KL ref opt <-> forall y, p y = opt y).

(** T2. With ref = d (full support) it pays exactly the price of its reward, alone. *)
Definition T2_on_the_frontier : Prop :=
  forall (Y : finType) (d p r : Y -> R) (beta mu : R),
  law p -> law d -> d ≪ p -> (forall y, 0 < d y) -> 0 < beta ->
  (forall y, r y < mu) ->
  let opt := fun y => beta * d y / (mu - r y) in
  sum opt = 1 -> E opt r <= E p r ->
  KL d opt <= KL d p /\ (KL d p = KL d opt -> forall y, p y = opt y).

(** T2. Every reward c in (J(d), max r) is that of some beta, with mu = c + beta. *)
Definition T2_every_reward : Prop :=
  forall (Y : finType) (d r : Y -> R) (c : R) (y0 : Y),
  law d -> (forall y, 0 < d y) -> (forall y, r y <= r y0) ->
  E d r < c < r y0 -> exists beta, 0 < beta /\ (forall y, r y < c + beta) /\
  sum (fun y => beta * d y / (c + beta - r y)) = 1 /\
  E (fun y => beta * d y / (c + beta - r y)) r = c.

(** T2. k3 in the reward trains J - beta [KL(p‖ref) - KL(ref‖p)] (T1): unbounded for every beta and every
    reward as soon as there are two responses. *)
Definition T2_k3_in_reward_unbounded : Prop :=
  forall (Y : finType) (ref r : Y -> R) (beta : R) (y0 y1 : Y) (B : R),
  law ref -> (forall y, 0 < ref y) ->
  0 < beta -> y0 != y1 ->
  exists p, law p /\ (forall y, 0 < p y) /\ B < E p r - beta * (KL p ref - KL ref p).

(** T2. At p = ref that penalty has zero gradient and zero Hessian, in every direction of the logits. *)
Definition T2_k3_in_reward_flat : Prop :=
  forall (Y : finType) (theta g : Y -> R),
  inhabited Y ->
  let ref := softmax theta in
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  exists D : R -> R,
  (forall eta, is_derive (fun eta => KL (p_at eta) ref - KL ref (p_at eta)) eta (D eta)) /\
  D 0 = 0 /\ is_derive D 0 0.

(** T10. Policy gradient without a leash, theta' = grad J. The path solves the flow: logits
    -log(1/ref + sigma - tau r) with sum log(1 + ref (sigma - tau r)) = 0, in the clock with
    tau' = 1/(sum of their exponentials). *)
Definition T10_path_solves_flow : Prop :=
  forall (Y : finType) (ref r : Y -> R) (sigma tau : R -> R) (a b t : R) (y : Y),
  (forall y, 0 < ref y) ->
  a < t < b ->
  (forall u, a < u < b -> (forall z, 0 < / ref z + (sigma u - tau u * r z)) /\
     sum (fun z => ln (1 + ref z * (sigma u - tau u * r z))) = 0) ->
  let theta := fun u z => - ln (/ ref z + (sigma u - tau u * r z)) in
  let p := softmax (theta t) in
  ex_derive sigma t -> is_derive tau t (/ sum (fun z => exp (theta t z))) ->
  is_derive (fun u => theta u y) t (p y * (r y - E p r)).

(** T10. Conversely, every solution from theta_0 = log ref is on that path at all times. *)
Definition T10_flow_on_path : Prop :=
  forall (Y : finType) (ref r : Y -> R) (theta : R -> Y -> R) (a b t : R),
  (forall y, 0 < ref y) ->
  a < 0 < b -> a < t < b -> (forall y, theta 0 y = ln (ref y)) ->
  (forall u y, a < u < b -> let p := softmax (theta u) in
   is_derive (fun u => theta u y) u (p y * (r y - E p r))) ->
  exists sigma tau : R, let w := fun y => / ref y + (sigma - tau * r y) in
    (forall y, 0 < w y) /\ sum (fun y => ln (1 + ref y * (sigma - tau * r y))) = 0 /\
    (forall y, theta t y = - ln (w y)) /\
    (forall y, softmax (theta t) y = / w y / sum (fun z => / w z)).

(** T10. For each tau at most one sigma satisfies the constraint: its left side increases in sigma. *)
Definition T10_sigma_unique : Prop :=
  forall (Y : finType) (ref r : Y -> R) (sigma sigma' tau : R),
  (forall y, 0 < ref y) -> inhabited Y ->
  sigma < sigma' -> (forall y, 0 < / ref y + (sigma - tau * r y)) ->
  sum (fun y => ln (1 + ref y * (sigma - tau * r y))) <
  sum (fun y => ln (1 + ref y * (sigma' - tau * r y))).

(** T10. From a uniform ref every point of the path with tau > 0 is on S5's frontier. *)
Definition T10_uniform_ref_frontier : Prop :=
  forall (Y : finType) (ref r : Y -> R) (sigma tau k : R) (p' : Y -> R),
  (forall y, 0 < ref y) -> law ref ->
  (forall y, ref y = k) -> 0 < tau -> (forall y, 0 < / ref y + (sigma - tau * r y)) ->
  let w := fun y => / ref y + (sigma - tau * r y) in
  let p := fun y => / w y / sum (fun z => / w z) in
  law p' -> ref ≪ p' -> E p r <= E p' r -> KL ref p <= KL ref p'.

(** T11. A verifier with false-positive rate f0 and false-negative rate f1: the optimum for what it pays
    on average is the tilt at beta/(1 - f0 - f1). *)
Definition T11_noisy_verifier : Prop :=
  forall (Y : finType) (ref r : Y -> R) (beta : R) (f0 f1 : R) (y : Y),
  law ref -> 0 < beta -> f0 + f1 < 1 ->
  let seen := fun z => r z * (1 - f1) + (1 - r z) * f0 in
  tilt ref seen beta y = tilt ref r (beta / (1 - f0 - f1)) y.

(** T11. Entropy bonus: J_b + alpha H has the optimum prop. to ref^{beta/(alpha+beta)} e^{r/(alpha+beta)},
    and any p is (alpha + beta) KL(p‖optimum) below it. *)
Definition T11_entropy_bonus : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta : R) (alpha : R),
  law p -> law ref -> (forall y, 0 < ref y) ->
  0 < alpha + beta ->
  let w := fun y => Rpower (ref y) (beta / (alpha + beta)) * exp (r y / (alpha + beta)) in
  let opt := fun y => w y / sum w in
  let F := fun p => J_b p ref r beta + alpha * CE p p in
  law opt /\ F opt - F p = (alpha + beta) * KL p opt.

(** T11. With ref = d, S2 prices that optimum with the reward r - alpha log d at alpha + beta. *)
Definition T11_entropy_bonus_cost : Prop :=
  forall (Y : finType) (d r : Y -> R) (beta : R) (alpha : R),
  law d -> (forall y, 0 < d y) -> 0 < alpha + beta ->
  let w := fun y => Rpower (d y) (beta / (alpha + beta)) * exp (r y / (alpha + beta)) in
  let opt := fun y => w y / sum w in
  let r' := fun y => r y - alpha * ln (d y) in
  CE d opt - CE d d = ln (Z d r' (alpha + beta)) - E d r' / (alpha + beta).

(** T5. Tilts compose: tilt_s(tilt_t(p)) = tilt_{s+t}(p). *)
Definition T5_tilts_compose : Prop :=
  forall (Y : finType) (p r : Y -> R) (s t : R) (y : Y),
  law p ->
  tilt_at (tilt_at p r t) r s y = tilt_at p r (s + t) y.

(** T5. k runs in a row at beta, the reference reset between, are one run at beta/k. *)
Definition T5_runs_in_a_row : Prop :=
  forall (Y : finType) (ref r : Y -> R) (beta : R) (k : nat) (y : Y),
  law ref -> 0 < beta -> (0 < k)%nat ->
  iter k (fun p => tilt p r beta) ref y = tilt ref r (beta / INR k) y.

(** T5. ref^{1-v} tilt^v, normalised, is the tilt at beta/v. *)
Definition T5_geometric_mixture : Prop :=
  forall (Y : finType) (ref r : Y -> R) (beta : R) (v : R) (y : Y),
  law ref -> (forall y, 0 < ref y) -> beta <> 0 ->
  v <> 0 ->
  let w := fun z => Rpower (ref z) (1 - v) * Rpower (tilt ref r beta z) v in
  w y / sum w = tilt ref r (beta / v) y.

(** T5. Sampling sequences at temperature T is the tilt of p by log p at s = 1/T - 1. *)
Definition T5_temperature : Prop :=
  forall (Y : finType) (p : Y -> R) (T : R) (y : Y),
  law p -> (forall y, 0 < p y) ->
  let w := fun z => Rpower (p z) (/ T) in
  w y / sum w = tilt_at p (fun z => ln (p z)) (/ T - 1) y.

(** T6. (a) Logit form. A cycle is RL for time s (p -> tilt_s(p)), then p -> p^{1-eta} d^eta, normalised:
    from any full-support p the log-odds errors against tilt_{s(1-eta)/eta}(d) are exactly (1-eta)^n of
    what they were after n cycles. *)
Definition T6_logit_contraction : Prop :=
  forall (Y : finType) (d r : Y -> R) (s : R) (eta : R) (p : Y -> R) (n : nat) (y z : Y),
  law p -> (forall y, 0 < p y) -> law d ->
  (forall y, 0 < d y) -> 0 < eta ->
  let cycle := fun p y =>
    let w := fun z => Rpower (tilt_at p r s z) (1 - eta) * Rpower (d z) eta in w y / sum w in
  let lim := tilt_at d r (s * (1 - eta) / eta) in
  let pn := iter n cycle p in
  ln (pn y / lim y) - ln (pn z / lim z) = (1 - eta) ^ n * (ln (p y / lim y) - ln (p z / lim z)).

(** T6. (a) That limit after SFT stays in place, and after RL it is tilt_{s/eta}(d). *)
Definition T6_logit_limits : Prop :=
  forall (Y : finType) (d r : Y -> R) (s : R) (eta : R) (y : Y),
  law d -> (forall y, 0 < d y) -> 0 < eta ->
  let cycle := fun p y =>
    let w := fun z => Rpower (tilt_at p r s z) (1 - eta) * Rpower (d z) eta in w y / sum w in
  let lim := tilt_at d r (s * (1 - eta) / eta) in
  cycle lim y = lim y /\ tilt_at lim r s y = tilt_at d r (s / eta) y.

(** T6. (b) Mixture form. A cycle is p -> (1-eta) tilt_s(p) + eta d; p stays in place iff p =
    eta d lambda/(lambda - (1-eta) e^{sr}) with lambda = E_p e^{sr} > (1-eta) max e^{sr}. *)
Definition T6_mixture_fixed_point : Prop :=
  forall (Y : finType) (d r : Y -> R) (s : R) (eta : R) (p : Y -> R),
  law d -> (forall y, 0 < d y) -> law p -> 0 < eta < 1 ->
  let lambda := E p (fun z => exp (s * r z)) in
  (forall y, (1 - eta) * tilt_at p r s y + eta * d y = p y) <->
  (forall y, (1 - eta) * exp (s * r y) < lambda) /\
  (forall y, p y = eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y))).

(** T6. (b) A lambda > (1-eta) max e^{sr} that makes this a law exists. *)
Definition T6_mixture_lambda_exists : Prop :=
  forall (Y : finType) (d r : Y -> R) (s : R) (eta : R),
  law d -> (forall y, 0 < d y) -> 0 < eta < 1 ->
  exists lambda : R, (forall y, (1 - eta) * exp (s * r y) < lambda) /\
    sum (fun y => eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y))) = 1.

(** T6. (b) It is the only one: the sum strictly decreases in lambda. *)
Definition T6_mixture_lambda_unique : Prop :=
  forall (Y : finType) (d r : Y -> R) (s : R) (eta lambda lambda' : R),
  law d -> 0 < eta < 1 ->
  (forall y, (1 - eta) * exp (s * r y) < lambda) -> lambda < lambda' ->
  sum (fun y => eta * d y * lambda' / (lambda' - (1 - eta) * exp (s * r y))) <
  sum (fun y => eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y))).

(** T6. (b) That law has E_p e^{sr} = lambda, stays in place, is (eta/lambda) d/(e^{-sr} - (1-eta)/lambda)
    after RL, and is S5's frontier policy of the reward e^{sr}. *)
Definition T6_mixture_limit : Prop :=
  forall (Y : finType) (d r : Y -> R) (s : R) (eta lambda : R),
  law d -> (forall y, 0 < d y) -> 0 < eta < 1 ->
  (forall y, (1 - eta) * exp (s * r y) < lambda) ->
  let p := fun y => eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y)) in
  sum p = 1 ->
  law p /\ E p (fun z => exp (s * r z)) = lambda /\
  (forall y, (1 - eta) * tilt_at p r s y + eta * d y = p y) /\
  (forall y, tilt_at p r s y = eta / lambda * d y / (exp (- (s * r y)) - (1 - eta) / lambda)) /\
  (forall p', law p' -> d ≪ p' -> lambda <= E p' (fun z => exp (s * r z)) -> KL d p <= KL d p').

(** T6. (b) Rate: with v = p/limit, max v/min v - 1 (here: any K with v(y) <= (1 + K) v(z)) shrinks by
    rho = (1-eta) max e^{sr}/lambda a cycle. (max v - min v need not, before p is near the limit.) *)
Definition T6_mixture_rate : Prop :=
  forall (Y : finType) (d r : Y -> R) (s : R) (eta lambda : R) (p : Y -> R) (M : R) (K : R),
  law d -> (forall y, 0 < d y) -> 0 < eta < 1 ->
  (forall y, (1 - eta) * exp (s * r y) < lambda) ->
  let lim := fun y => eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y)) in
  sum lim = 1 ->
  (forall y, exp (s * r y) <= M) -> (1 - eta) * M < lambda -> law p -> (forall y, 0 < p y) ->
  let next := fun y => (1 - eta) * tilt_at p r s y + eta * d y in
  (forall y z, p y / lim y <= (1 + K) * (p z / lim z)) ->
  forall y z, next y / lim y <= (1 + (1 - eta) * M / lambda * K) * (next z / lim z).

(** T6. (b) With M = max e^{sr}: rho <= (1-eta)/(1 - eta + eta d(argmax)). *)
Definition T6_mixture_rate_bound : Prop :=
  forall (Y : finType) (d r : Y -> R) (s : R) (eta lambda M : R),
  law d -> (forall y, 0 < d y) -> 0 < eta < 1 ->
  (forall y, (1 - eta) * exp (s * r y) < lambda) ->
  sum (fun y => eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y))) = 1 ->
  (forall y, exp (s * r y) <= M) -> 0 < M -> (1 - eta) * M < lambda ->
  (1 - eta) * M / lambda <=
  (1 - eta) / (1 - eta + eta * sum (fun y => if Req_EM_T (exp (s * r y)) M then d y else 0)).

(** T8. Replay m = (1-v) d + v p: J(m) - J(d) = v (J(p) - J(d)). *)
Definition T8_replay_reward : Prop :=
  forall (Y : finType) (d p r : Y -> R) (v : R),
  E (fun y => (1 - v) * d y + v * p y) r - E d r = v * (E p r - E d r).

(** T8. KL(d‖m) <= -log(1 - v + v e^{-KL(d‖p)}), itself at most -log(1-v) and v KL(d‖p); equality iff v is
    0 or 1 or p = d on supp d up to a factor. *)
Definition T8_replay_bound : Prop :=
  forall (Y : finType) (d p : Y -> R) (v : R),
  law d -> law p -> d ≪ p -> 0 <= v <= 1 ->
  let m := fun y => (1 - v) * d y + v * p y in
  let bound := - ln (1 - v + v * exp (- KL d p)) in
  KL d m <= bound /\ (v < 1 -> bound <= - ln (1 - v)) /\ bound <= v * KL d p /\
  (KL d m = bound <-> v = 0 \/ v = 1 \/ forall y z, 0 < d y -> 0 < d z -> p y / d y = p z / d z).

(** T9. Weighted SFT: -E_d[stopgrad(p^a) log p] has the gradient of -sum d p^a/a (for a = 1, that of
    -E_p[d]: policy gradient with the reward d). *)
Definition T9_gradient : Prop :=
  forall (Y : finType) (d theta g : Y -> R) (a : R),
  inhabited Y -> a <> 0 ->
  let p_at := fun eta => softmax (fun y => theta y + eta * g y) in
  exists G : R,
  is_derive (fun eta => - sum (fun y => d y * Rpower (softmax theta y) a * ln (p_at eta y))) 0 G /\
  is_derive (fun eta => - sum (fun y => d y * Rpower (p_at eta y) a / a)) 0 G.

(** T9. For a < 1, a != 0 the only optimum among full-support policies is d^{1/(1-a)}, normalised: the tilt
    of d by log d at s = a/(1-a). It costs log sum d^{1/(1-a)} + a/(1-a) H(d). (d has full support; for
    a >= 1 only the gradient above is proved.) *)
Definition T9_optimum : Prop :=
  forall (Y : finType) (d p : Y -> R) (a : R),
  law d -> law p -> (forall y, 0 < d y) -> (forall y, 0 < p y) ->
  a < 1 -> a <> 0 ->
  let w := fun y => Rpower (d y) (/ (1 - a)) in
  let opt := fun y => w y / sum w in
  let O := fun p => - sum (fun y => d y * Rpower (p y) a / a) in
  (forall y, opt y = tilt_at d (fun y => ln (d y)) (a / (1 - a)) y) /\
  O opt <= O p /\ (O p = O opt -> forall y, p y = opt y) /\
  CE d opt - CE d d = ln (sum w) + a / (1 - a) * CE d d.

(** T9. SFT on data reweighted by f > 0 ends at d f/E_d f, alone. (f = e^{r/beta}, AWR: the tilt.) *)
Definition T9_reweighted_data : Prop :=
  forall (Y : finType) (d f p : Y -> R),
  law d -> (forall y, 0 < f y) -> law p -> d ≪ p ->
  let opt := fun y => d y * f y / E d f in
  let L := fun p => - E d (fun y => f y * ln (p y)) in
  law opt /\ L opt <= L p /\ (L p = L opt <-> forall y, p y = opt y).

(** T9. The weights beta/(mu - r) end on the frontier: at T2's policy. *)
Definition T9_frontier_weights : Prop :=
  forall (Y : finType) (d r : Y -> R) (beta mu : R) (y : Y),
  law d -> 0 < beta -> (forall y, r y < mu) ->
  sum (fun y => beta * d y / (mu - r y)) = 1 ->
  d y * (beta / (mu - r y)) / E d (fun z => beta / (mu - r z)) = beta * d y / (mu - r y).

(** T9. Verifiable rewards: filtered SFT with replay, (1-v) d + v d_A, is the tilt with success c =
    (1-v) a + v, 1/beta = logit c - logit a, a = d(A). (So the target c needs v = (c-a)/(1-a).) *)
Definition T9_filtered_sft_is_tilt : Prop :=
  forall (Y : finType) (A : Y -> bool) (d : Y -> R) (v : R) (y : Y),
  law d ->
  let r := fun y => if A y then 1 else 0 in
  0 < E d r < 1 -> 0 < v < 1 ->
  let a := E d r in let c := (1 - v) * a + v in
  let beta := / (ln (c / (1 - c)) - ln (a / (1 - a))) in
  0 < beta /\ (1 - v) * d y + v * (if A y then d y / a else 0) = tilt d r beta y.

(** T1. Baselines in a group of G independent draws: with the mean of the other G - 1 rewards the expected
    gradient is E_p[r S] (S a score, E_p S = 0), with the mean of all G it is (G-1)/G of that; a penalty in
    the reward scales alike. [draws p G F] is the expectation of F over G draws. *)
Definition T1_baselines : Prop :=
  forall (Y : finType) (p r : Y -> R) (S : Y -> R) (G : nat),
  law p -> E p S = 0 -> (1 < G)%nat ->
  let draws := fix draws (p : Y -> R) (n : nat) (F : list Y -> R) {struct n} : R :=
    if n is m.+1 then E p (fun y => draws p m (fun l : list Y => F (y :: l))) else F nil in
  let total := fun (f : Y -> R) (l : list Y) => \big[Rplus/0]_(y <- l) f y in
  draws p G (fun l : list Y =>
    total (fun y => (r y - (total r l - r y) / (INR G - 1)) * S y) l / INR G) = E p (fun y => r y * S y) /\
  draws p G (fun l : list Y => total (fun y => (r y - total r l / INR G) * S y) l / INR G) =
  (INR G - 1) / INR G * E p (fun y => r y * S y).

(** T4. Binary reward, groups of G, advantages (r - m) phi(K) with K successes and m = K/G (phi = 1/(sd + e)):
    the expected gradient is grad c = E_p[1_A S] times E[m(1-m) phi(K)]/(c(1-c)), K ~ Bin(G, c). *)
Definition T4_expected_gradient : Prop :=
  forall (Y : finType) (A : Y -> bool) (p : Y -> R) (S : Y -> R) (G : nat) (phi : nat -> R),
  law p -> E p S = 0 ->
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

(** T4. Stationary with the reverse leash: h grad J = beta grad KL(p‖ref), in every direction g of the
    logits, iff p is the tilt at beta/h. (With r = 1_A and h = h_G(p(A)), V1 gives logit c = logit a + h/beta
    and unchanged conditional laws.) *)
Definition T4_stationary : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta : R) (h : R),
  law p -> law ref -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta -> 0 < h ->
  (forall g, h * E p (fun y => r y * (g y - E p g)) =
             beta * E p (fun y => ln (p y / ref y) * (g y - E p g))) <->
  (forall y, p y = tilt ref r (beta / h) y).

(** T2. At equal reward the tilt pays more than that frontier policy iff r has three levels (d has full
    support). *)
Definition T2_tilt_pays_more_iff : Prop :=
  forall (Y : finType) (d r : Y -> R) (beta : R) (beta' mu : R),
  law d -> (forall y, 0 < d y) -> 0 < beta -> 0 < beta' ->
  (forall y, r y < mu) ->
  let opt := fun y => beta * d y / (mu - r y) in
  sum opt = 1 -> E (tilt d r beta') r = E opt r ->
  KL d opt < KL d (tilt d r beta') <-> exists y1 y2 y3, r y1 < r y2 < r y3.

(** T2. k3 in the reward: an interior local maximum has at most one response below ref. Near a policy with
    two there is a better one. *)
Definition T2_k3_in_reward_local_maximum : Prop :=
  forall (Y : finType) (p ref r : Y -> R) (beta : R) (i j : Y) (delta : R),
  law p -> (forall y, 0 < p y) ->
  (forall y, 0 < ref y) -> 0 < beta -> i != j -> p i < ref i -> p j < ref j -> 0 < delta ->
  exists q, law q /\ (forall y, 0 < q y) /\ (forall y, Rabs (q y - p y) < delta) /\
  E p r - beta * (KL p ref - KL ref p) < E q r - beta * (KL q ref - KL ref q).

(** T6. (b) So n cycles from p bring every probability within a factor 1 + rho^n K of the limit. *)
Definition T6_mixture_converges : Prop :=
  forall (Y : finType) (d r : Y -> R) (s : R) (eta lambda : R) (p : Y -> R) (M : R) (K : R) (n : nat),
  law d -> (forall y, 0 < d y) ->
  0 < eta < 1 -> (forall y, (1 - eta) * exp (s * r y) < lambda) ->
  let lim := fun y => eta * d y * lambda / (lambda - (1 - eta) * exp (s * r y)) in
  sum lim = 1 ->
  (forall y, exp (s * r y) <= M) -> (1 - eta) * M < lambda -> law p -> (forall y, 0 < p y) ->
  let pn := iter n (fun p y => (1 - eta) * tilt_at p r s y + eta * d y) p in
  let bound := 1 + ((1 - eta) * M / lambda) ^ n * K in
  (forall y z, p y / lim y <= (1 + K) * (p z / lim z)) ->
  forall y, pn y <= bound * lim y /\ lim y <= bound * pn y.

(** S9. For 0 <= l <= 1, max r <= M and c <= J(p) none of the three terms is negative. *)
Definition S9_terms_nonnegative : Prop :=
  forall (Y : finType) (d p r : Y -> R) (c M l : R),
  law d -> law p -> d ≪ p -> c < M -> (forall y, r y <= M) ->
  0 <= l <= 1 -> c <= E p r -> (forall y, 0 < d y -> 0 < 1 - l * (r y - c) / (M - c)) ->
  let h := fun y => 1 - l * (r y - c) / (M - c) in
  let z := fun y => p y * h y / d y in
  0 <= E d (fun y => z y - 1 - ln (z y)) /\ 0 <= l * (E p r - c) / (M - c) /\
  0 <= E p (fun y => (if Req_EM_T (d y) 0 then 1 else 0) * h y).

(** T10. For every tau some sigma satisfies the constraint. *)
Definition T10_sigma_exists : Prop :=
  forall (Y : finType) (ref r : Y -> R) (tau : R),
  (forall y, 0 < ref y) -> inhabited Y ->
  exists sigma : R, (forall y, 0 < / ref y + (sigma - tau * r y)) /\
  sum (fun y => ln (1 + ref y * (sigma - tau * r y))) = 0.

(** T6. The Fisher-natural gradient flows p' = p (phi - E_p phi), phi the derivative of the objective in p.
    RL (phi = r) for time s moves p to tilt_s(p). *)
Definition T6_rl_flow : Prop :=
  forall (Y : finType) (p r : Y -> R) (s : R) (y : Y),
  law p ->
  is_derive (fun s => tilt_at p r s y) s (tilt_at p r s y * (r y - E (tilt_at p r s) r)).

(** T6. SFT on the cross entropy (phi = d/p) for time t moves p to (1-eta) p + eta d, eta = 1 - e^{-t}. *)
Definition T6_sft_flow : Prop :=
  forall (Y : finType) (p d : Y -> R) (t : R) (y : Y),
  law p -> (forall y, 0 < p y) -> law d -> (forall y, 0 < d y) -> 0 <= t ->
  let pt := fun t y => exp (- t) * p y + (1 - exp (- t)) * d y in
  is_derive (fun t => pt t y) t (pt t y * (d y / pt t y - E (pt t) (fun z => d z / pt t z))).

(** T6. SFT on KL(p‖d) (phi = -log(p/d)) moves it to p^{1-eta} d^eta = d e^{(1-eta) log(p/d)}, normalised. *)
Definition T6_reverse_sft_flow : Prop :=
  forall (Y : finType) (p d : Y -> R) (t : R) (y : Y),
  law d -> (forall y, 0 < d y) ->
  let w := fun t z => d z * exp (exp (- t) * ln (p z / d z)) in
  let pt := fun t z => w t z / sum (w t) in
  let u := fun z => ln (pt t z / d z) in
  is_derive (fun t => pt t y) t (- (pt t y * (u y - E (pt t) u))).

(** S9 (averaged). One nu for all prompts and a mu_x > nu r on supp d_x for each: E_q KL(d‖p) is the dual
    value nu c + 1 + E_q[E_d log(mu - nu r) - mu] and the three terms. *)
Definition S9_overpayment_identity_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (d p r : forall x, Y x -> R) (mu : X -> R) (nu c : R),
  law q -> (forall x, law (d x)) ->
  (forall x, law (p x)) -> (forall x, d x ≪ p x) ->
  (forall x y, 0 < d x y -> 0 < mu x - nu * r x y) ->
  let z := fun x y => p x y * (mu x - nu * r x y) / d x y in
  E q (fun x => KL (d x) (p x)) -
    (nu * c + 1 + E q (fun x => E (d x) (fun y => ln (mu x - nu * r x y)) - mu x)) =
  E q (fun x => E (d x) (fun y => z x y - 1 - ln (z x y))) +
  nu * (E q (fun x => E (p x) (r x)) - c) +
  E q (fun x => E (p x) (fun y => (if Req_EM_T (d x y) 0 then 1 else 0) * (mu x - nu * r x y))).

(** R9. Refuted: "0 < a <= KL(p_SFT‖p_RL) <= A implies J(p_SFT) <= J(p_RL) - C, C > 0". Constant reward:
    p_RL = (1/2, 1/2) is the RL optimum, p_SFT = (3/4, 1/4), and nothing is lost. *)
Definition R9_constant_reward : Prop :=
  let p_rl := fun b : bool_finType => if b then 1 / 2 else 1 - 1 / 2 in
  let p_sft := fun b : bool_finType => if b then 3 / 4 else 1 - 3 / 4 in
  let r := fun _ : bool_finType => 0 in
  law p_rl /\ law p_sft /\ 0 < KL p_sft p_rl /\ (forall b, tilt p_rl r 1 b = p_rl b) /\
  E p_sft r = E p_rl r.

(** R9. Refuted with a non-constant reward: from ref = (3/4, 1/4), r = (0, 1), e^{1/beta} = 3 the RL
    optimum is (1/2, 1/2), and SFT to d = (1/4, 3/4) raises the reward by 1/4. *)
Definition R9_reward_rises : Prop :=
  let ref := fun b : bool_finType => if b then 3 / 4 else 1 - 3 / 4 in
  let d := fun b : bool_finType => if b then 1 / 4 else 1 - 1 / 4 in
  let r := fun b : bool_finType => if b then 0 else 1 in
  let beta := / ln 3 in let p_rl := tilt ref r beta in
  law ref /\ law d /\ 0 < beta /\ (forall b, p_rl b = if b then 1 / 2 else 1 - 1 / 2) /\
  0 < KL d p_rl /\ E d r = E p_rl r + 1 / 4.

(** R9. Refuted by level sets: r = (0, 0, 1), and p_SFT moves mass between the first two responses. *)
Definition R9_level_sets : Prop :=
  let three := fun (a b c : R) (i : ordinal_finType 3) =>
    match val i with 0%nat => a | 1%nat => b | _ => c end in
  let p_rl := three (1 / 4) (1 / 4) (1 / 2) in
  let p_sft := three (1 / 8) (3 / 8) (1 / 2) in
  let r := three 0 0 1 in
  law p_rl /\ law p_sft /\ 0 < KL p_sft p_rl /\ E p_sft r = E p_rl r.

(** V1. Refuted: "policy gradient finds the KL-minimal solution". ref = (1/2, 1/4, 1/4), r = 1 on the first
    two; on the path of T10 at sigma = 20/3, tau = 23/3 stands p = (96, 32, 9)/137, and q, with the same
    success rate, has a smaller KL. *)
Definition V1_razor_refuted : Prop :=
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

(** T2. The smallest unbounded world: ref = (1/2, 1/2), r = 0, p = (1 - 2^-k, 2^-k) has
    O(p) >= beta (k/2 - 2) log 2. *)
Definition T2_k3_in_reward_two_responses : Prop :=
  forall (beta : R) (k : nat),
  0 < beta -> (0 < k)%nat ->
  let ref := fun b : bool_finType => if b then 1 / 2 else 1 - 1 / 2 in
  let p := fun b : bool_finType => if b then 1 - (1 / 2) ^ k else 1 - (1 - (1 / 2) ^ k) in
  beta * (INR k / 2 - 2) * ln 2 <= E p (fun _ => 0) - beta * (KL p ref - KL ref p).

(** T7. Best of n, responses 0 ... N-1 numbered from worst to best (ties in a fixed order): with F(i) the
    mass of the first i, pi_n(i) = F(i+1)^n - F(i)^n. One draw is ref; one more draw keeps the better. *)
Definition T7_draws : Prop :=
  forall (N : nat) (ref : ordinal_finType N -> R) (n : nat) (i : 'I_N),
  law ref ->
  let F := fun i : nat => sum (fun j : ordinal_finType N => if (j < i)%nat then ref j else 0) in
  let best := fun n (i : ordinal_finType N) => F i.+1 ^ n - F i ^ n in
  best 1%nat i = ref i /\ best n.+1 i = best n i * F i.+1 + F i ^ n * ref i.

(** T7. KL(pi_n‖ref) <= log n - (n-1)/n and KL(ref‖pi_n) <= n - 1 - log n, for any reward. *)
Definition T7_bounds : Prop :=
  forall (N : nat) (ref : ordinal_finType N -> R) (n : nat),
  law ref -> (0 < n)%nat ->
  let F := fun i : nat => sum (fun j : ordinal_finType N => if (j < i)%nat then ref j else 0) in
  let best := fun i : ordinal_finType N => F i.+1 ^ n - F i ^ n in
  KL best ref <= ln (INR n) - (INR n - 1) / INR n /\ KL ref best <= INR n - 1 - ln (INR n).

(** T7. Best of m of best of n is best of m n. *)
Definition T7_best_of_best : Prop :=
  forall (N : nat) (ref : ordinal_finType N -> R) (m n : nat) (i : 'I_N),
  (0 < n)%nat ->
  let F := fun (p : ordinal_finType N -> R) (i : nat) =>
    sum (fun j : ordinal_finType N => if (j < i)%nat then p j else 0) in
  let best := fun p n (i : ordinal_finType N) => F p i.+1 ^ n - F p i ^ n in
  best (best ref n) m i = best ref (n * m)%coq_nat i.

(** T7. Binary reward, 1 on the responses from k on: success 1 - (1-a)^n. (That pi_n is then a tilt holds
    with two responses, or with ties broken by the order of the draws: not here.) *)
Definition T7_success : Prop :=
  forall (N : nat) (ref : ordinal_finType N -> R) (n k : nat),
  law ref -> (0 < n)%nat ->
  (k <= N)%nat ->
  let F := fun i : nat => sum (fun j : ordinal_finType N => if (j < i)%nat then ref j else 0) in
  let best := fun i : ordinal_finType N => F i.+1 ^ n - F i ^ n in
  let r := fun i : ordinal_finType N => if (k <= i)%nat then 1 else 0 in
  E best r = 1 - (1 - E ref r) ^ n.

(** T4. Population standard deviation, no epsilon: h_G(c) = E[sqrt(m(1-m))]/(c(1-c)) lies between
    2(G-1)/G and min(sqrt(G-1), 1/sqrt(c(1-c))). *)
Definition T4_factor_bounds : Prop :=
  forall (G : nat) (c : R),
  (1 < G)%nat -> 0 < c < 1 ->
  let h := sum (fun k : ordinal_finType G.+1 => INR (binomial.binomial G k) * c ^ k * (1 - c) ^ (G - k) *
    sqrt (INR k / INR G * (1 - INR k / INR G))) / (c * (1 - c)) in
  2 * (INR G - 1) / INR G <= h /\ h <= sqrt (INR G - 1) /\ h <= 1 / sqrt (c * (1 - c)).

(** T4. So logit c = logit a + h_G(c)/beta has a root for every beta > 0 ... *)
Definition T4_root_exists : Prop :=
  forall (G : nat) (a beta : R),
  (1 < G)%nat -> 0 < a < 1 -> 0 < beta ->
  let h := fun c => sum (fun k : ordinal_finType G.+1 => INR (binomial.binomial G k) * c ^ k *
    (1 - c) ^ (G - k) * sqrt (INR k / INR G * (1 - INR k / INR G))) / (c * (1 - c)) in
  exists c, 0 < c < 1 /\ ln (c / (1 - c)) = ln (a / (1 - a)) + h c / beta.

(** T4. ... and at every root logit c - logit a lies in [2(G-1)/(G beta), sqrt(G-1)/beta], so the failure rate
    is at most ((1-a)/a) e^{-2(G-1)/(G beta)}. *)
Definition T4_root_bounds : Prop :=
  forall (G : nat) (a beta c : R),
  (1 < G)%nat -> 0 < a < 1 -> 0 < beta -> 0 < c < 1 ->
  let h := fun c => sum (fun k : ordinal_finType G.+1 => INR (binomial.binomial G k) * c ^ k *
    (1 - c) ^ (G - k) * sqrt (INR k / INR G * (1 - INR k / INR G))) / (c * (1 - c)) in
  let gain := ln (c / (1 - c)) - ln (a / (1 - a)) in
  ln (c / (1 - c)) = ln (a / (1 - a)) + h c / beta ->
  2 * (INR G - 1) / (INR G * beta) <= gain <= sqrt (INR G - 1) / beta /\
  1 - c <= (1 - a) / a * exp (- (2 * (INR G - 1) / (INR G * beta))).

(** T4. Large groups, h = 1/sqrt(c(1-c)) = 2 cosh(x/2) at the log-odds x = logit c. *)
Definition T4_large_group_factor : Prop :=
  forall (c : R),
  0 < c < 1 ->
  1 / sqrt (c * (1 - c)) = 2 * cosh (ln (c / (1 - c)) / 2).

(** T4. With L = logit a, some x0 > max(0, L) has (x0 - L) tanh(x0/2) = 2 ... *)
Definition T4_critical_exists : Prop :=
  forall (L : R),
  exists x0, 0 < x0 /\ L < x0 /\ (x0 - L) * tanh (x0 / 2) = 2.

(** T4. ... and beta_c = sinh(x0/2) is critical for beta (x - L) = 2 cosh(x/2): no stationary policy below
    it, one at it, exactly two above it. (That the lower one attracts is not proved.) *)
Definition T4_critical_beta : Prop :=
  forall (L x0 beta : R),
  0 < x0 -> L < x0 -> (x0 - L) * tanh (x0 / 2) = 2 -> 0 < beta ->
  let beta_c := sinh (x0 / 2) in
  let stationary := fun beta x => beta * (x - L) = 2 * cosh (x / 2) in
  (beta < beta_c -> forall x, ~ stationary beta x) /\
  (beta = beta_c -> forall x, stationary beta x <-> x = x0) /\
  (beta_c < beta -> exists x1 x2, L < x1 < x0 /\ x0 < x2 /\
     forall x, stationary beta x <-> x = x1 \/ x = x2).

(** T3. Leashes per token, T tokens from V, reward r of the sequence. [value p n h] is the expected reward
    under p after the tokens h when n tokens remain, [Q a] that after one more token a; "stationary at h" says that the gradient at the logits of h, divided by the probability of h, vanishes. k2 in the
    loss: stationary at h iff p(.|h) = tilt of ref(.|h) by Q(h,.). *)
Definition T3_k2_is_tilt_of_hard_value : Prop :=
  forall (V : finType) (T : nat) (r : list V -> R) (beta : R) (ref p : list V -> V -> R) (h : list V),
  0 < beta ->
  (forall h, law (p h) /\ forall a, 0 < p h a) -> (forall h, law (ref h) /\ forall a, 0 < ref h a) ->
  let value := fix value (p : list V -> V -> R) (n : nat) (h : list V) {struct n} : R :=
    if n is m.+1 then E (p h) (fun a => value p m (rcons h a)) else r h in
  let Q := fun a => value p (T - size h).-1 (rcons h a) in
  (forall a, p h a * (Q a - E (p h) Q) =
     beta * (p h a * (ln (p h a / ref h a) - E (p h) (fun b => ln (p h b / ref h b))))) <->
  (forall a, p h a = tilt (ref h) Q beta a).

(** T3. k3 in the loss: stationary at h only if p(a|h) = beta ref(a|h)/(mu - Q(h,a)), mu = V(h) + beta. *)
Definition T3_k3_form : Prop :=
  forall (V : finType) (T : nat) (r : list V -> R) (beta : R) (ref p : list V -> V -> R) (h : list V),
  0 < beta ->
  (forall h, law (p h) /\ forall a, 0 < p h a) -> (forall h, law (ref h) /\ forall a, 0 < ref h a) ->
  let value := fix value (p : list V -> V -> R) (n : nat) (h : list V) {struct n} : R :=
    if n is m.+1 then E (p h) (fun a => value p m (rcons h a)) else r h in
  let Q := fun a => value p (T - size h).-1 (rcons h a) in
  (forall a, p h a * (Q a - E (p h) Q) = beta * (p h a - ref h a)) ->
  let mu := E (p h) Q + beta in
  (forall a, Q a < mu) /\ (forall a, p h a = beta * ref h a / (mu - Q a)).

(** T3. At most one full-support policy is stationary at every prefix with k2 ... (That it attracts every
    flow is not proved.) *)
Definition T3_k2_unique : Prop :=
  forall (V : finType) (T : nat) (r : list V -> R) (beta : R) (ref p p' : list V -> V -> R),
  0 < beta ->
  (forall h, law (p h) /\ forall a, 0 < p h a) -> (forall h, law (p' h) /\ forall a, 0 < p' h a) ->
  (forall h, law (ref h) /\ forall a, 0 < ref h a) ->
  let value := fix value (p : list V -> V -> R) (n : nat) (h : list V) {struct n} : R :=
    if n is m.+1 then E (p h) (fun a => value p m (rcons h a)) else r h in
  let stationary := fun p h => let Q := fun a => value p (T - size h).-1 (rcons h a) in
    forall a, p h a * (Q a - E (p h) Q) =
      beta * (p h a * (ln (p h a / ref h a) - E (p h) (fun b => ln (p h b / ref h b)))) in
  (forall h, (size h < T)%nat -> stationary p h) -> (forall h, (size h < T)%nat -> stationary p' h) ->
  forall h, (size h < T)%nat -> forall a, p h a = p' h a.

(** T3. ... and with k3. *)
Definition T3_k3_unique : Prop :=
  forall (V : finType) (T : nat) (r : list V -> R) (beta : R) (ref p p' : list V -> V -> R),
  0 < beta ->
  (forall h, law (p h) /\ forall a, 0 < p h a) -> (forall h, law (p' h) /\ forall a, 0 < p' h a) ->
  (forall h, law (ref h) /\ forall a, 0 < ref h a) ->
  let value := fix value (p : list V -> V -> R) (n : nat) (h : list V) {struct n} : R :=
    if n is m.+1 then E (p h) (fun a => value p m (rcons h a)) else r h in
  let stationary := fun p h => let Q := fun a => value p (T - size h).-1 (rcons h a) in
    forall a, p h a * (Q a - E (p h) Q) = beta * (p h a - ref h a) in
  (forall h, (size h < T)%nat -> stationary p h) -> (forall h, (size h < T)%nat -> stationary p' h) ->
  forall h, (size h < T)%nat -> forall a, p h a = p' h a.

(** T3. With k2 there is one, by backward induction. *)
Definition T3_k2_exists : Prop :=
  forall (V : finType) (T : nat) (r : list V -> R) (beta : R) (ref : list V -> V -> R),
  0 < beta -> (forall h, law (ref h) /\ forall a, 0 < ref h a) ->
  let value := fix value (p : list V -> V -> R) (n : nat) (h : list V) {struct n} : R :=
    if n is m.+1 then E (p h) (fun a => value p m (rcons h a)) else r h in
  exists p, (forall h, law (p h) /\ forall a, 0 < p h a) /\
  forall h, (size h < T)%nat -> let Q := fun a => value p (T - size h).-1 (rcons h a) in
    forall a, p h a * (Q a - E (p h) Q) =
      beta * (p h a * (ln (p h a / ref h a) - E (p h) (fun b => ln (p h b / ref h b)))).

(** T4. Forward leash, h_G(c) c (1-c) = beta (c - a): exactly one root above a, for every G and beta. *)
Definition T4_forward_leash_root : Prop :=
  forall (G : nat) (a beta : R),
  (1 < G)%nat -> 0 < a < 1 -> 0 < beta ->
  let h := fun c => sum (fun k : ordinal_finType G.+1 => INR (binomial.binomial G k) * c ^ k *
    (1 - c) ^ (G - k) * sqrt (INR k / INR G * (1 - INR k / INR G))) / (c * (1 - c)) in
  exists c, a < c < 1 /\ h c * (c * (1 - c)) = beta * (c - a) /\
  forall c', a < c' < 1 -> h c' * (c' * (1 - c')) = beta * (c' - a) -> c' = c.

(** T11. Group-normalised advantages with a noisy verifier: a draw is a response and its verdict, and the
    expected gradient is grad p(A) times (1 - f0 - f1) h(f0 + (1 - f0 - f1) p(A)), h as in
    T4_expected_gradient. *)
Definition T11_noisy_groups : Prop :=
  forall (Y : finType) (A : Y -> bool) (p S : Y -> R) (f0 f1 : R) (G : nat) (phi : nat -> R),
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

(** S10 (averaged). (J(p) - J(d))/beta - E_q KL(p‖ref) = DeltaL(tilt) - E_q KL(p‖tilt). *)
Definition S10_identity_averaged : Prop :=
  forall (X : finType) (Y : X -> finType) (q : X -> R) (d p r ref : forall x, Y x -> R) (beta : R),
  (forall x, law (d x)) -> (forall x, law (p x)) -> (forall x, law (ref x)) ->
  (forall x, d x ≪ ref x) -> (forall x, p x ≪ ref x) ->
  (E q (fun x => E (p x) (r x)) - E q (fun x => E (d x) (r x))) / beta - E q (fun x => KL (p x) (ref x)) =
  E q (fun x => CE (d x) (tilt (ref x) (r x) beta)) - E q (fun x => CE (d x) (ref x)) -
  E q (fun x => KL (p x) (tilt (ref x) (r x) beta)).

(** T2. k3 in the reward with two responses, ref = (a, 1-a), r = (1, 0), p = (x, 1-x): O' > 0 on all of
    [a, 1), so that the flow from ref runs away, if a >= 1/2 or beta (log((1-a)/a) - 2(1-2a)) < 1; if not,
    O' has a zero in (a, 1), where the flow stops. *)
Definition T2_k3_in_reward_threshold : Prop :=
  forall (a beta : R),
  0 < a < 1 -> 0 < beta ->
  let two := fun (x : R) (b : bool_finType) => if b then x else 1 - x in
  let r := fun b : bool_finType => if b then 1 else 0 in
  let O := fun x => E (two x) r - beta * (KL (two x) (two a) - KL (two a) (two x)) in
  let O' := fun x => 1 - beta * (ln (x / a) - ln ((1 - x) / (1 - a)) + a / x - (1 - a) / (1 - x)) in
  let runs := 1 / 2 <= a \/ beta * (ln ((1 - a) / a) - 2 * (1 - 2 * a)) < 1 in
  (forall x, 0 < x < 1 -> is_derive O x (O' x)) /\
  (runs -> forall x, a <= x < 1 -> 0 < O' x) /\
  (~ runs -> exists x, a < x < 1 /\ O' x = 0).
