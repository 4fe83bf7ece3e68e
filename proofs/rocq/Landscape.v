(** * Landscape: softmax policies (P1, P4, and the directional derivative of F5) *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Foundations Concentration SftThenRl.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

Section Landscape.
Variable Y : finType.
Implicit Types (p d : Y -> R) (theta g : Y -> R) (m eta : R).

(** P1. 1/2 ‖p - d‖^2 >= (min p/2) KL(d‖p); by F5 the left side is half the squared gradient. *)
Theorem pl_sft_loss p d m : law p -> law d -> 0 < m -> (forall y, m <= p y) ->
  m / 2 * KL d p <= 1 / 2 * (\sum_(y : Y) (p y - d y) ^ 2).
Proof.
move=> lp ld m0 mp.
suff: m * KL d p <= \sum_(y : Y) (p y - d y) ^ 2 by lra.
have -> : m * KL d p = \sum_(y : Y) (m * (d y * ln (d y / p y) - (d y - p y))).
  rewrite -(Rminus_0_r (KL d p)) -(sum_law_difference ld lp) /KL !collect.
  by apply: sum_ext.
apply: sum_le => y; have py : 0 < p y by move: (mp y); lra.
have chi : d y * ln (d y / p y) - (d y - p y) <= (p y - d y) ^ 2 / p y.
  case: (law_case y ld) => [->|dy]; first by apply: Req_le; field; lra.
  have := ln_le_sub1 (Rdiv_lt_0_compat _ _ dy py).
  move=> /(Rmult_le_compat_l _ _ _ (Rlt_le _ _ dy)).
  rewrite (_ : (p y - d y) ^ 2 / p y = d y * (d y / p y - 1) - (d y - p y)); [lra | field; lra].
apply: (Rle_trans _ (m * ((p y - d y) ^ 2 / p y))); first by apply: Rmult_le_compat_l; lra.
apply: (Rle_trans _ (p y * ((p y - d y) ^ 2 / p y))); last by apply: Req_le; field; lra.
by apply: Rmult_le_compat_r (mp y); apply: Rle_mult_inv_pos => //; exact: pow2_ge_0.
Qed.

Lemma softmax_law theta : inhabited Y -> law (softmax theta).
Proof.
case=> y0; have z0 : 0 < \sum_(z : Y) exp (theta z).
  by apply: (sum_gt0 (y:=y0)) => [z|]; [apply/Rlt_le|]; exact: exp_pos.
split=> [y|]; first by apply: Rle_mult_inv_pos => //; apply/Rlt_le/exp_pos.
by rewrite /softmax -sum_div; field; lra.
Qed.

Lemma softmax_gt0 theta y : 0 < softmax theta y.
Proof.
apply: Rdiv_lt_0_compat (exp_pos _) _.
by apply: (sum_gt0 (y:=y)) => [z|]; [apply/Rlt_le|]; exact: exp_pos.
Qed.

(** Moving the logits by f reweights the policy by e^f. *)
Lemma softmax_step theta f y : softmax (fun z => theta z + f z) y = gibbs (softmax theta) f y.
Proof.
have z0 : 0 < \sum_(z : Y) exp (theta z).
  by apply: (sum_gt0 (y:=y)) => [z|]; [apply/Rlt_le|]; exact: exp_pos.
have z1 : 0 < \sum_(z : Y) exp (theta z + f z).
  by apply: (sum_gt0 (y:=y)) => [z|]; [apply/Rlt_le|]; exact: exp_pos.
have e : E (softmax theta) (fun z => exp (f z))
  = (\sum_(z : Y) exp (theta z + f z)) / \sum_(z : Y) exp (theta z).
  by rewrite /E collect; apply: sum_ext => z; rewrite /softmax exp_plus; field; lra.
by rewrite /gibbs e /softmax exp_plus; field; lra.
Qed.

(** P4. The exact change of the SFT loss under a step of the logits. *)
Theorem step_identity d theta g eta : law d ->
  let theta' := fun y => theta y + eta * g y in
  CE d (softmax theta') - CE d (softmax theta) =
  eta * (\sum_(y : Y) ((softmax theta y - d y) * g y)) + KL (softmax theta) (softmax theta').
Proof.
move=> ld theta'; have [y0 _] := law_support ld.
have lt : law (softmax theta) by apply: softmax_law.
have dt : d ≪ softmax theta by apply: full_dominates => y; exact: softmax_gt0.
have e y : softmax theta' y = gibbs (softmax theta) (fun z => eta * g z) y by exact: softmax_step.
rewrite (CE_ext d e) (KL_ext (fun y => erefl (softmax theta y)) e).
rewrite loss_change_gibbs // KL_gibbs // KL_refl // !E_scal.
have -> : \sum_(y : Y) ((softmax theta y - d y) * g y) = E (softmax theta) g - E d g.
  by rewrite /E collect; apply: sum_ext => y; ring.
by ring.
Qed.

Theorem step_improves_iff d theta g eta : law d ->
  let theta' := fun y => theta y + eta * g y in
  CE d (softmax theta') < CE d (softmax theta) <->
  KL (softmax theta) (softmax theta') < eta * (\sum_(y : Y) ((d y - softmax theta y) * g y)).
Proof.
move=> ld theta'; have := step_identity theta g eta ld; rewrite -/theta'.
have -> : \sum_(y : Y) ((softmax theta y - d y) * g y) = - \sum_(y : Y) ((d y - softmax theta y) * g y).
  by rewrite collect; apply: sum_ext => y; ring.
by split; lra.
Qed.

(** F5, in every direction g: the gradient of the SFT loss in the logits is p - d. *)
Theorem sft_gradient d theta g : law d ->
  is_derive (fun eta => CE d (softmax (fun y => theta y + eta * g y))) 0
            (\sum_(y : Y) ((softmax theta y - d y) * g y)).
Proof.
move=> ld; have [y0 _] := law_support ld.
have lt : law (softmax theta) by apply: softmax_law.
have dt : d ≪ softmax theta by apply: full_dominates => y; exact: softmax_gt0.
have z1 : E (softmax theta) (fun y => exp (0 * g y)) = 1.
  by rewrite -(E_const 1 lt); apply: E_ext => y; rewrite Rmult_0_l exp_0.
apply: (is_derive_ext (fun eta => CE d (softmax theta)
  + (ln (E (softmax theta) (fun y => exp (eta * g y))) - eta * E d g))) => [t|].
  rewrite (CE_ext d (softmax_step theta (fun z => t * g z))).
  by have := loss_change_gibbs (fun z => t * g z) ld lt dt; rewrite E_scal; lra.
have -> : \sum_(y : Y) ((softmax theta y - d y) * g y) = 0 + (E (softmax theta) g - E d g).
  by rewrite /E collect Rplus_0_l; apply: sum_ext => y; ring.
apply: (@is_derive_plus _ _ (fun _ => _)); first exact: is_derive_const.
apply: (@is_derive_minus _ _ (fun s => ln _) (fun s => s * _)); last by auto_derive => //; ring.
have dln : is_derive ln (E (softmax theta) (fun y => exp (0 * g y))) 1.
  by rewrite z1; auto_derive; [lra | field].
have := is_derive_comp _ _ _ _ _ dln (is_derive_partition (softmax theta) g 0).
rewrite (@E_ext _ _ (fun y => g y * _) g) => [|y]; last by rewrite Rmult_0_l exp_0; ring.
by rewrite /scal /= /mult /= Rmult_1_r.
Qed.

(** F5, in every direction g: the gradient of the reward is p * (r - E_p r), entry by entry. *)
Theorem reward_gradient theta r g : inhabited Y ->
  is_derive (fun eta => E (softmax (fun y => theta y + eta * g y)) r) 0
            (\sum_(y : Y) (softmax theta y * (r y - E (softmax theta) r) * g y)).
Proof.
move=> inh; have lp := softmax_law theta inh; set p := softmax theta in lp *.
apply: (is_derive_ext (fun s => E p (fun y => r y * exp (s * g y)) / E p (fun y => exp (s * g y)))) =>
  [t|].
  by rewrite -E_gibbs //; apply: E_law_ext => y; rewrite -softmax_step.
have z1 : E p (fun y => exp (0 * g y)) = 1.
  by rewrite -(E_const 1 lp); apply: E_ext => y; rewrite Rmult_0_l exp_0.
have := is_derive_div _ _ _ _ _ (is_derive_moment p g r 0) (is_derive_partition p g 0)
  ltac:(cbv beta; rewrite z1; lra).
have at0 f : E p (fun y => f y * exp (0 * g y)) = E p f.
  by apply: E_ext => y; rewrite Rmult_0_l exp_0; ring.
rewrite z1 (at0 g) (at0 r) (_ : E p _ = E p (fun y => r y * g y));
  last exact: (at0 (fun y => r y * g y)).
have -> // : \sum_(y : Y) (p y * (r y - E p r) * g y)
  = (E p (fun y => r y * g y) * 1 - E p r * E p g) / 1 ^ 2.
set c := E p r; rewrite (_ : (_ - _) / 1 ^ 2 = E p (fun y => r y * g y) - c * E p g); last by field.
rewrite /E !collect; apply: sum_ext => y; ring.
Qed.

(** F5: the Hessian of the SFT loss is diag(p) - p p^T, as a bilinear form in g and h. *)
Theorem sft_hessian d theta g h : law d ->
  is_derive (fun eta => \sum_(y : Y) ((softmax (fun z => theta z + eta * g z) y - d y) * h y)) 0
            (\sum_(y : Y) (softmax theta y * h y * g y) -
             (\sum_(y : Y) (softmax theta y * h y)) * (\sum_(y : Y) (softmax theta y * g y))).
Proof.
move=> ld; have [y0 _] := law_support ld.
apply: (is_derive_ext (fun eta => E (softmax (fun z => theta z + eta * g z)) h - E d h)) => [t|].
  by rewrite /E collect; apply: sum_ext => y; ring.
have -> : \sum_(y : Y) (softmax theta y * h y * g y) -
             (\sum_(y : Y) (softmax theta y * h y)) * (\sum_(y : Y) (softmax theta y * g y)) =
  \sum_(y : Y) (softmax theta y * (h y - E (softmax theta) h) * g y) - 0.
  rewrite -/(E (softmax theta) h); set c := E _ h.
  by rewrite Rminus_0_r !collect; apply: sum_ext => y; ring.
apply: (@is_derive_minus _ _ (fun s => E _ h) (fun s => E d h)); last exact: is_derive_const.
exact: reward_gradient.
Qed.

(** F5: KL between softmax policies is the Bregman divergence of logsumexp. *)
Theorem softmax_bregman theta theta' : inhabited Y ->
  KL (softmax theta) (softmax theta') =
  ln (\sum_(y : Y) exp (theta' y)) - ln (\sum_(y : Y) exp (theta y)) -
  \sum_(y : Y) (softmax theta y * (theta' y - theta y)).
Proof.
move=> inh; have lp := softmax_law theta inh; case: inh => y0.
have zpos u : 0 < \sum_(z : Y) exp (u z).
  by apply: (sum_gt0 (y:=y0)) => [z|]; [apply/Rlt_le|]; exact: exp_pos.
rewrite -(E_const (ln _ - ln _) lp) /KL /E !collect; apply: sum_ext => y.
rewrite (ln_quotient (softmax_gt0 theta y) (softmax_gt0 theta' y)).
have ln_softmax u : ln (softmax u y) = u y - ln (\sum_(z : Y) exp (u z)).
  by rewrite (ln_quotient (exp_pos (u y)) (zpos u)) ln_exp.
by rewrite !ln_softmax; ring.
Qed.

(** ** Logits centred at their mean *)

Definition mean g := sum g / \sum_(y : Y) 1.
Definition centred_sq g := \sum_(y : Y) (g y - mean g) ^ 2.

Lemma centred_sq_ge0 g : 0 <= centred_sq g.
Proof. by apply: sum_ge0 => y; exact: pow2_ge_0. Qed.

(** The mean is the best centre. *)
Lemma centred_sq_le g c : inhabited Y -> centred_sq g <= \sum_(y : Y) (g y - c) ^ 2.
Proof.
case=> y0; set n := \sum_(y : Y) 1; set mu := mean g.
have n0 : 0 < n by apply: (@sum_gt0 _ (fun _ : Y => 1) y0) => [y|]; lra.
have sg : sum g = n * mu by rewrite /mu /mean -/n; field; lra.
have -> : \sum_(y : Y) (g y - c) ^ 2 = centred_sq g + (2 * (mu - c) * sum g + (c ^ 2 - mu ^ 2) * n).
  rewrite /centred_sq -/mu (Rmult_comm _ n) (Rmult_comm n) /n !collect.
  by apply: sum_ext => y; ring.
have := Rmult_le_pos n ((mu - c) ^ 2) (Rlt_le _ _ n0) (pow2_ge_0 _).
by rewrite sg; lra.
Qed.

Lemma range_le_centred_sq g a b : (g a - g b) ^ 2 <= 2 * centred_sq g.
Proof.
have D0 := centred_sq_ge0 g; case: (eqVneq a b) => [->|neq].
  by have -> : (g b - g b) ^ 2 = 0 by [ring]; lra.
have := two_terms_le_sum neq (fun y => pow2_ge_0 (g y - mean g)).
by rewrite -/(centred_sq g); have := pow2_ge_0 ((g a - mean g) + (g b - mean g)); lra.
Qed.

(** ** P2: sandwich *)

Lemma softmax_between theta theta' y :
  softmax theta' y = gibbs (softmax theta) (fun z => theta' z - theta z) y.
Proof.
rewrite -softmax_step /softmax (_ : theta y + (theta' y - theta y) = theta' y); last by ring.
by congr (_ / _); apply: sum_ext => z; congr exp; ring.
Qed.

(** For reweightings of a law p by e^g. *)
Lemma KL_gibbs_upper p g : law p -> KL p (gibbs p g) <= centred_sq g / 4.
Proof.
move=> lp; have [y0 _] := law_support lp.
have [a ga] := exists_max g y0; have [b gb] := exists_max (fun y => - g y) y0.
have bounds y : g b <= g y <= g a by move: (ga y) (gb y); lra.
have := hoeffding 1 lp bounds; rewrite KL_gibbs // KL_refl //.
rewrite (@E_ext _ _ (fun y => exp (1 * g y)) (fun y => exp (g y))); last by move=> y; rewrite Rmult_1_l.
by have := range_le_centred_sq g a b; lra.
Qed.

Lemma tilt_at_lower p g m eta y : law p -> 0 < m -> (forall y, m <= p y) ->
  (forall y, m <= gibbs p g y) -> 0 <= eta <= 1 -> m <= tilt_at p g eta y.
Proof.
move=> lp m0 mp mg eta01; have py : 0 < p y by move: (mp y); lra.
have lt : law (tilt_at p g eta) by exact: gibbs_law.
have tp : tilt_at p g eta ≪ p by exact: gibbs_dominated.
have k1 := KL_ge0 lt lp tp.
have k2 := KL_ge0 lt (gibbs_law g lp) (@dominated_gibbs _ _ p g lp tp).
rewrite (KL_gibbs g lt lp tp) in k2;
  rewrite /tilt_at KL_gibbs_self // E_scal -/(tilt_at p g eta) in k1 k2.
have l0 := ln_gibbs (fun z => eta * g z) lp py; rewrite -/(tilt_at p g eta) in l0.
have l1 := ln_gibbs g lp py.
have ty : 0 < tilt_at p g eta y by exact: gibbs_gt0.
have ln_mono x : m <= x -> ln m <= ln x by case=> [/(ln_increasing _ _ m0)|->]; lra.
have h0 := ln_mono _ (mp y); have h1 := ln_mono _ (mg y).
set J := E (tilt_at p g eta) g in k1 k2; set z := ln _ in k1 k2 l0; set z1 := ln _ in k2 l1.
have c1 := Rmult_le_pos (1 - eta) _ ltac:(lra) k1; have c2 := Rmult_le_pos eta _ (proj1 eta01) k2.
have c3 := Rmult_le_compat_l (1 - eta) _ _ ltac:(lra) h0;
  have c4 := Rmult_le_compat_l eta _ _ (proj1 eta01) h1.
rewrite l1 in c4; apply: Rnot_lt_le => /(ln_increasing _ _ ty); lra.
Qed.

Lemma KL_gibbs_lower p g m : law p -> 0 < m -> (forall y, m <= p y) -> (forall y, m <= gibbs p g y) ->
  m / 2 * centred_sq g <= KL p (gibbs p g).
Proof.
move=> lp m0 mp mg; have [y0 _] := law_support lp; set D := centred_sq g.
have var eta : 0 <= eta <= 1 -> m * D <= Var (tilt_at p g eta) g.
  move=> eta01; set c := E (tilt_at p g eta) g.
  apply: (Rle_trans _ (m * (\sum_(y : Y) (g y - c) ^ 2))).
    by apply: Rmult_le_compat_l; [lra | exact: centred_sq_le].
  rewrite sum_scal; apply: sum_le => y; apply: Rmult_le_compat_r; first exact: pow2_ge_0.
  exact: tilt_at_lower.
set L := fun eta => CE p (tilt_at p g eta) - CE p p.
have dL eta : is_derive L eta (E (tilt_at p g eta) g - E p g) by exact: loss_derivative.
have slope eta : 0 <= eta <= 1 -> 0 <= E (tilt_at p g eta) g - E p g - m * D * eta.
  move=> eta01; set h := fun eta => E (tilt_at p g eta) g - E p g - m * D * eta.
  have h0 : h 0 = 0 by rewrite /h E_tilt_at_0 //; ring.
  rewrite -/(h eta) -h0.
  apply: (@nondecreasing_between h (fun eta => Var (tilt_at p g eta) g - m * D)) => [x hx|x hx|];
    last by lra.
    apply: (@is_derive_minus _ _ (fun x => _ - _) (fun x => m * D * x)).
      by case: (gain_derivative g x lp).
    by auto_derive => //; ring.
  by have := var x ltac:(lra); lra.
set F := fun eta => L eta - m / 2 * D * eta ^ 2.
have F0 : F 0 = 0.
  rewrite /F /L loss_change_tilt_at // (_ : E p (fun y => exp (0 * g y)) = 1).
    by rewrite ln_1; field.
  by rewrite -(E_const 1 lp); apply: E_ext => y; rewrite Rmult_0_l exp_0.
have F1 : 0 <= F 1.
  rewrite -F0; apply: (@nondecreasing_between F
    (fun eta => E (tilt_at p g eta) g - E p g - m * D * eta)) => [x hx|x hx|]; last by lra.
    apply: (@is_derive_minus _ _ L (fun x => m / 2 * D * x ^ 2)); first exact: dL.
    by auto_derive => //; field.
  exact: slope.
have L1 : L 1 = KL p (gibbs p g).
  rewrite /L loss_change_tilt_at // KL_gibbs // KL_refl //.
  rewrite (@E_ext _ _ (fun y => exp (1 * g y)) (fun y => exp (g y)));
    [ring | by move=> y; rewrite Rmult_1_l].
by move: F1; rewrite /F L1; lra.
Qed.

Theorem logit_sandwich theta theta' m : inhabited Y -> 0 < m ->
  (forall y, m <= softmax theta y) -> (forall y, m <= softmax theta' y) ->
  let D := centred_sq (fun y => theta' y - theta y) in
  m / 2 * D <= KL (softmax theta) (softmax theta') <= D / 4.
Proof.
move=> inh m0 mp mp' D; have lp := softmax_law theta inh.
rewrite (KL_ext (fun y => erefl (softmax theta y)) (softmax_between theta theta')).
split; last exact: KL_gibbs_upper.
by apply: KL_gibbs_lower => // y; rewrite -softmax_between.
Qed.

Lemma centred_sq_scale c g : centred_sq (fun y => c * g y) = c ^ 2 * centred_sq g.
Proof.
rewrite /centred_sq collect; apply: sum_ext => y; rewrite /mean -sum_scal /Rdiv; ring.
Qed.

(** P2. At SFT optimality the tilt raises the loss by between these. *)
Theorem coupling_sandwich d r beta m : law d -> 0 < beta -> 0 < m -> (forall y, m <= d y) ->
  (forall y, m <= tilt d r beta y) ->
  m / 2 * centred_sq r / beta ^ 2 <= CE d (tilt d r beta) - CE d d <= centred_sq r / (4 * beta ^ 2).
Proof.
move=> ld b0 m0 md mt; rewrite (proj2 (coupling_gap r beta ld)).
have e : centred_sq (fun y => r y / beta) = centred_sq r / beta ^ 2.
  rewrite (_ : centred_sq r / beta ^ 2 = (/ beta) ^ 2 * centred_sq r); last by field; lra.
  rewrite -centred_sq_scale /centred_sq; apply: sum_ext => y.
  rewrite (_ : mean (fun y => r y / beta) = mean (fun y => / beta * r y)); first by rewrite /Rdiv; ring.
  by congr (_ / _); apply: sum_ext => z; rewrite /Rdiv; ring.
have lo := KL_gibbs_lower ld m0 md mt; have hi := KL_gibbs_upper (fun y => r y / beta) ld.
rewrite e in lo hi; split.
  by rewrite (_ : m / 2 * centred_sq r / beta ^ 2 = m / 2 * (centred_sq r / beta ^ 2)) //; field; lra.
by rewrite (_ : centred_sq r / (4 * beta ^ 2) = centred_sq r / beta ^ 2 / 4) //; field; lra.
Qed.

(** P4. A sufficient condition and its converse, through P2. *)
Theorem step_improves_if d theta g eta : law d -> 0 < eta ->
  let theta' := fun y => theta y + eta * g y in
  eta * centred_sq g / 4 < \sum_(y : Y) ((d y - softmax theta y) * g y) ->
  CE d (softmax theta') < CE d (softmax theta).
Proof.
move=> ld e0 theta' big; apply/(step_improves_iff theta g eta ld); have [y0 _] := law_support ld.
have lp : law (softmax theta) by apply: softmax_law.
rewrite (KL_ext (fun y => erefl (softmax theta y)) (softmax_step theta (fun z => eta * g z))).
have := KL_gibbs_upper (fun z => eta * g z) lp; rewrite centred_sq_scale.
by have := Rmult_lt_compat_l _ _ _ e0 big; lra.
Qed.

(** ** P3: PL of the regularised reward *)

Lemma gibbs_law_ext p p' g y : (forall z, p z = p' z) -> gibbs p g y = gibbs p' g y.
Proof. by move=> e; rewrite /gibbs e (E_law_ext _ e). Qed.

(** The gradient of J_b in the logits, in every direction g, with phi = r - beta log(p/ref) up to a
    constant. *)
Theorem regularised_reward_gradient theta ref r beta g : inhabited Y -> (forall y, 0 < ref y) ->
  let p := softmax theta in
  let phi := fun y => r y - beta * ln (p y / ref y) in
  is_derive (fun eta => Jb (softmax (fun y => theta y + eta * g y)) ref r beta) 0
            (\sum_(y : Y) (p y * (phi y - E p phi) * g y)).
Proof.
move=> inh r0 p phi; have lp : law p by exact: softmax_law.
pose q eta := softmax (fun y => theta y + eta * g y).
have lq eta : law (q eta) by exact: softmax_law.
have qE eta y : q eta y = gibbs p (fun z => eta * g z) y by exact: softmax_step.
have p0 y : 0 < p y by exact: softmax_gt0.
have JE eta : E (q eta) phi - beta * (eta * E (q eta) g) + beta * ln (E p (fun y => exp (eta * g y))) =
              Jb (q eta) ref r beta.
  set c := ln _; have lnq y : ln (q eta y) = ln (p y) + eta * g y - c by rewrite qE ln_gibbs.
  rewrite -(E_const c (lq eta)) /Jb /KL /E !collect; apply: sum_ext => y.
  have qy : 0 < q eta y by exact: softmax_gt0.
  by rewrite (ln_quotient qy (r0 y)) lnq /phi (ln_quotient (p0 y) (r0 y)); ring.
apply: (is_derive_ext _ _ _ _ JE).
have dphi := reward_gradient theta phi g inh; rewrite -/p in dphi.
have dg := reward_gradient theta g g inh.
have z1 : E p (fun y => exp (0 * g y)) = 1.
  by rewrite -(E_const 1 lp); apply: E_ext => y; rewrite Rmult_0_l exp_0.
have dln : is_derive ln (E p (fun y => exp (0 * g y))) 1 by rewrite z1; auto_derive; [lra | field].
have dz := is_derive_comp _ _ _ _ _ dln (is_derive_partition p g 0).
rewrite (_ : E p (fun y => g y * exp (0 * g y)) = E p g) in dz; last first.
  by apply: E_ext => y; rewrite Rmult_0_l exp_0; ring.
set A := fun eta => E (q eta) phi in dphi *; set B := fun eta => E (q eta) g in dg *.
set C := fun eta => ln (E p (fun y => exp (eta * g y))) in dz *.
change (is_derive A 0 (\sum_(y : Y) (p y * (phi y - E p phi) * g y))) in dphi.
change (is_derive C 0 (E p g * 1)) in dz.
change (is_derive (fun eta => A eta - beta * (eta * B eta) + beta * C eta) 0
  (\sum_(y : Y) (p y * (phi y - E p phi) * g y))).
have exB : ex_derive B 0 by eexists; exact: dg.
auto_derive; first by split; [eexists; exact: dphi | split; [|split; [eexists; exact: dz|]]].
rewrite (is_derive_unique _ _ _ dphi) (is_derive_unique _ _ _ dz).
have -> : B 0 = E p g.
  by apply: E_law_ext => y; rewrite qE; move: y; apply/gibbs_id_iff => // y z _ _; ring.
by ring.
Qed.

Theorem pl_regularised_reward p ref r beta m : law p -> law ref -> (forall y, 0 < ref y) -> 0 < beta ->
  0 < m -> (forall y, m <= p y) ->
  let phi := fun y => r y - beta * ln (p y / ref y) in
  2 * beta * m ^ 2 * (Jb (tilt ref r beta) ref r beta - Jb p ref r beta) <=
  1 / 2 * (\sum_(y : Y) (p y * (phi y - E p phi)) ^ 2).
Proof.
move=> lp lr r0 b0 m0 mp phi; have [y0 _] := law_support lp.
have p0 y : 0 < p y by move: (mp y); lra.
have pr : p ≪ ref by exact: full_dominates.
rewrite regularised_reward_gap //.
have tE y : tilt ref r beta y = gibbs p (fun z => / beta * phi z) y.
  have e z : p z = gibbs ref (fun w => ln (p w / ref w)) z.
    rewrite /gibbs (_ : E ref _ = 1).
      by rewrite exp_ln; [field; move: (r0 z); lra | exact: Rdiv_lt_0_compat].
    rewrite -(proj2 lp); apply: sum_ext => w.
    by rewrite exp_ln; [field; move: (r0 w); lra | exact: Rdiv_lt_0_compat].
  have -> : gibbs p (fun z => / beta * phi z) y =
            gibbs (gibbs ref (fun w => ln (p w / ref w))) (fun z => / beta * phi z) y.
    exact: gibbs_law_ext.
  rewrite gibbs_gibbs // /tilt; move: y; apply/gibbs_eq_iff => // y z _ _.
  by rewrite /phi; field; lra.
rewrite (KL_ext (fun y => erefl (p y)) tE).
have := KL_gibbs_upper (fun z => / beta * phi z) lp; rewrite centred_sq_scale => up.
have lo : m ^ 2 * centred_sq phi <= \sum_(y : Y) (p y * (phi y - E p phi)) ^ 2.
  apply: (Rle_trans _ (m ^ 2 * (\sum_(y : Y) (phi y - E p phi) ^ 2))).
    by apply: Rmult_le_compat_l; [exact: pow2_ge_0 | exact: centred_sq_le].
  rewrite sum_scal; apply: sum_le => y; rewrite Rpow_mult_distr.
  by apply: Rmult_le_compat_r; [exact: pow2_ge_0 | apply: pow_incr; move: (mp y); lra].
have c0 : 0 <= 2 * beta * m ^ 2 * beta by repeat apply: Rmult_le_pos; lra || exact: pow2_ge_0.
have := Rmult_le_compat_l _ _ _ c0 up.
rewrite (_ : 2 * beta * m ^ 2 * beta * ((/ beta) ^ 2 * centred_sq phi / 4)
  = m ^ 2 * centred_sq phi / 2); last by field; lra.
by lra.
Qed.

Theorem regularised_drop_lower theta theta' ref r beta m : law ref -> 0 < beta -> 0 < m ->
  (forall y, 0 < ref y) -> (forall y, tilt ref r beta y = softmax theta' y) ->
  (forall y, m <= softmax theta y) -> (forall y, m <= softmax theta' y) ->
  beta * (m / 2 * centred_sq (fun y => theta' y - theta y)) <=
  Jb (tilt ref r beta) ref r beta - Jb (softmax theta) ref r beta.
Proof.
move=> lr b0 m0 r0 tE mp mt; have [y0 _] := law_support lr.
have lp : law (softmax theta) by exact: softmax_law.
have pr : softmax theta ≪ ref by exact: full_dominates.
rewrite regularised_reward_gap // (KL_ext (fun y => erefl (softmax theta y)) tE).
by apply: Rmult_le_compat_l; [lra | case: (logit_sandwich (inhabits y0) m0 mp mt)].
Qed.

(** ** R7: the first SFT step *)

Theorem first_sft_step d theta r : law d ->
  let p := softmax theta in
  is_derive (fun eta => E (softmax (fun y => theta y - eta * (p y - d y))) r) 0
            (- \sum_(y : Y) ((p y - d y) * (p y * (r y - E p r)))).
Proof.
move=> ld p; have [y0 _] := law_support ld.
have := reward_gradient theta r (fun y => d y - p y) (inhabits y0); rewrite -/p => D.
rewrite collect (@sum_ext _ _ (fun y => p y * (r y - E p r) * (d y - p y))); last by move=> y; ring.
apply: (is_derive_ext _ _ _ _ _ D) => eta; apply: E_law_ext => y; rewrite /softmax.
by congr (_ / _); [congr exp; ring | apply: sum_ext => z; congr exp; ring].
Qed.

End Landscape.

(** A world with three responses where the first SFT step from the tilt raises the reward. *)

Definition three (a b c : R) (i : 'I_3) : R := match val i with 0%nat => a | 1%nat => b | _ => c end.

Lemma sum_three (f : 'I_3 -> R) :
  \sum_(i : ordinal_finType 3) f i = f ord0 + f (lift ord0 ord0) + f (lift ord0 (lift ord0 ord0)).
Proof. by rewrite /sum !big_ord_recl big_ord0; ring. Qed.

Theorem first_sft_step_can_raise_reward : exists (d r : ordinal_finType 3 -> R) (beta : R),
  law d /\ (forall y, 0 < d y) /\ 0 < beta /\
  let p := tilt d r beta in 0 < - \sum_(y : ordinal_finType 3) ((p y - d y) * (p y * (r y - E p r))).
Proof.
set d := three (1 / 2) (4999 / 10000) (1 / 10000) : ordinal_finType 3 -> R.
set r := three (-1) 0 1 : ordinal_finType 3 -> R.
have l0 : 0 < ln 150 by rewrite -ln_1; apply: ln_increasing; lra.
have d0 y : 0 < d y by rewrite /d /three; case: (val y) => [|[|n]]; lra.
have ld : law d by split=> [y|]; [exact/Rlt_le | rewrite sum_three /d /three /=; lra].
exists d, r, (/ ln 150); split=> //; split=> //; split; first exact: Rinv_0_lt_compat.
set p := tilt d r (/ ln 150) => /=.
have e0 : exp (-1 / / ln 150) = / 150.
  by rewrite (_ : -1 / / ln 150 = - ln 150) ?exp_Ropp ?exp_ln; [|lra|field; lra].
have e1 : exp (0 / / ln 150) = 1 by rewrite (_ : 0 / / ln 150 = 0) ?exp_0 //; field; lra.
have e2 : exp (1 / / ln 150) = 150.
  by rewrite (_ : 1 / / ln 150 = ln 150) ?exp_ln; [|lra|field; lra].
set i0 := ord0 : 'I_3; set i1 := lift ord0 ord0 : 'I_3; set i2 := lift ord0 (lift ord0 ord0) : 'I_3.
have [r0 [r1 r2]] : r i0 = -1 /\ r i1 = 0 /\ r i2 = 1 by [].
have [d0' [d1 d2]] : d i0 = 1 / 2 /\ d i1 = 4999 / 10000 /\ d i2 = 1 / 10000 by [].
have z : E d (fun y => exp (r y / / ln 150)) = 15547 / 30000.
  by rewrite /E sum_three r0 r1 r2 d0' d1 d2 e0 e1 e2; field.
have p0 : p i0 = 100 / 15547 by rewrite /p /tilt /gibbs z r0 d0' e0; field.
have p1 : p i1 = 14997 / 15547 by rewrite /p /tilt /gibbs z r1 d1 e1; field.
have p2 : p i2 = 450 / 15547 by rewrite /p /tilt /gibbs z r2 d2 e2; field.
have Er : E p r = 350 / 15547 by rewrite /E sum_three p0 p1 p2 r0 r1 r2; field.
by rewrite sum_three Er p0 p1 p2 r0 r1 r2 d0' d1 d2; lra.
Qed.
