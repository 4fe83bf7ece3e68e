(** * The headline statements, averaged over prompts

    Prompts x form a finite type with law q, each prompt has its own finite response type Y x, and
    every policy, data law and reward depends on x. Identities are averaged term by term. Squares and
    square roots go through Jensen: (E_q D)^2 <= E_q D^2. A range condition reads
    [m x <= r x y <= m x + R]: one width R, an offset per prompt. *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From NonDecoupling Require Import Sums Calculus Policies Foundations Concentration SftThenRl RlThenSft.
From NonDecoupling Require Import Landscape Decoupling.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

Section Definitions.
Variables (X : finType) (Y : X -> finType) (q : X -> R).
Implicit Types (p d ref r : forall x, Y x -> R) (beta : R).

Definition laws p := forall x, law (p x).
Definition all_dominated p ref := forall x, p x ≪ ref x.
Definition tilts ref r beta x := tilt (ref x) (r x) beta.

(** Averages over prompts of the reward, the divergence, the loss and the soft value. *)
Definition avg_reward p r := E q (fun x => E (p x) (r x)).
Definition avg_KL p ref := E q (fun x => KL (p x) (ref x)).
Definition avg_loss d p := E q (fun x => CE (d x) (p x)).
Definition avg_ln_Z ref r beta := E q (fun x => ln (Z (ref x) (r x) beta)).
Definition avg_Jb p ref r beta := avg_reward p r - beta * avg_KL p ref.
End Definitions.
Arguments tilts {X Y} ref r beta x y.

Section Averages.
Variable X : finType.
Variable Y : X -> finType.
Implicit Types (p d ref : forall x, Y x -> R) (r : forall x, Y x -> R) (m : X -> R).
Variable q : X -> R.
Hypothesis lq : law q.
Local Notation avg_reward := (avg_reward q).
Local Notation avg_KL := (avg_KL q).
Local Notation avg_loss := (avg_loss q).
Local Notation avg_ln_Z := (avg_ln_Z q).
Local Notation avg_Jb := (avg_Jb q).
Variables (beta : R).
Hypothesis beta0 : 0 < beta.

Lemma laws_tilts ref r : laws ref -> laws (tilts ref r beta).
Proof. by move=> lr x; exact: gibbs_law. Qed.

Lemma dominated_tilts p ref r : laws ref -> all_dominated p ref -> all_dominated p (tilts ref r beta).
Proof. by move=> lr pr x; exact: dominated_gibbs. Qed.

Lemma avg_KL_ge0 p ref : laws p -> laws ref -> all_dominated p ref -> 0 <= avg_KL p ref.
Proof. by move=> lp lr pr; apply: E_ge0 => // x; exact: KL_ge0. Qed.

(** The average of a nonnegative quantity vanishes iff it vanishes on every prompt that occurs. *)
Lemma avg_eq0 (f : X -> R) : (forall x, 0 <= f x) -> E q f = 0 <-> forall x, 0 < q x -> f x = 0.
Proof.
move=> f0; split=> [e x qx|e].
  have /(_ x)/Rmult_integral[|//] := sum_eq0 (fun x => Rmult_le_pos _ _ (proj1 lq x) (f0 x)) e; lra.
rewrite -(sum_0 X); apply: sum_ext => x.
by case: (law_case x lq) => [->|/e ->]; ring.
Qed.

Lemma avg_Jb_E p ref r : avg_Jb p ref r beta = E q (fun x => Jb (p x) (ref x) (r x) beta).
Proof. by rewrite /avg_Jb /Jb E_minus E_scal. Qed.

(** F3, R1. *)
Theorem avg_regularised_reward_gap p ref r : laws p -> laws ref -> all_dominated p ref ->
  avg_Jb (tilts ref r beta) ref r beta - avg_Jb p ref r beta = beta * avg_KL p (tilts ref r beta).
Proof.
move=> lp lr pr; rewrite !avg_Jb_E -E_minus -E_scal; apply: E_ext => x.
exact: regularised_reward_gap.
Qed.

Theorem avg_regularised_reward_value ref r : laws ref ->
  avg_Jb (tilts ref r beta) ref r beta = beta * avg_ln_Z ref r beta.
Proof.
by move=> lr; rewrite avg_Jb_E -E_scal; apply: E_ext => x; exact: regularised_reward_value.
Qed.

Theorem avg_regularised_reward_max p ref r : laws p -> laws ref -> all_dominated p ref ->
  avg_Jb p ref r beta <= beta * avg_ln_Z ref r beta /\
  (avg_Jb p ref r beta = beta * avg_ln_Z ref r beta <->
   forall x, 0 < q x -> forall y, p x y = tilts ref r beta x y).
Proof.
move=> lp lr pr; rewrite -avg_regularised_reward_value //.
have gap := avg_regularised_reward_gap r lp lr pr.
have lt := laws_tilts r lr; have dt := @dominated_tilts p ref r lr pr.
have k0 := Rmult_le_pos _ _ (Rlt_le _ _ beta0) (avg_KL_ge0 lp lt dt).
have kx x : 0 <= KL (p x) (tilts ref r beta x) by apply: KL_ge0.
split; first by lra.
have -> : avg_Jb p ref r beta = avg_Jb (tilts ref r beta) ref r beta <->
          avg_KL p (tilts ref r beta) = 0.
  by split=> e; [apply: (Rmult_eq_reg_l beta) | rewrite e in gap]; lra.
rewrite /avg_KL avg_eq0 //; split=> h x qx;
  by [apply/KL_eq0 => //; exact: h | move: (h x qx) => /KL_eq0; apply].
Qed.

Theorem avg_regularised_drop_bounds p ref r a A : laws p -> laws ref -> all_dominated p ref ->
  a <= avg_KL p (tilts ref r beta) <= A ->
  beta * a <= avg_Jb (tilts ref r beta) ref r beta - avg_Jb p ref r beta <= beta * A.
Proof.
by move=> lp lr pr [lo hi]; rewrite avg_regularised_reward_gap //; split; apply: Rmult_le_compat_l; lra.
Qed.

(** S1, S2. *)
Theorem avg_loss_change_tilt d ref r : laws d -> laws ref -> all_dominated d ref ->
  avg_loss d (tilts ref r beta) - avg_loss d ref = avg_ln_Z ref r beta - avg_reward d r / beta.
Proof.
move=> ld lr dr; rewrite /avg_loss /avg_ln_Z /avg_reward -E_div -!E_minus.
by apply: E_ext => x; exact: loss_change_tilt.
Qed.

Lemma avg_loss_change_KL d p ref : laws d -> laws p -> laws ref -> all_dominated d p ->
  all_dominated d ref -> avg_loss d p - avg_loss d ref = avg_KL d p - avg_KL d ref.
Proof.
move=> ld lp lr dp dr; rewrite /avg_loss /avg_KL -!E_minus; apply: E_ext => x.
exact: loss_change_is_KL_difference.
Qed.

Lemma avg_KL_refl d : laws d -> avg_KL d d = 0.
Proof.
move=> ld; rewrite /avg_KL (@E_ext _ _ _ (fun _ => 0)) ?E_const // => x; exact: KL_refl.
Qed.

Theorem avg_coupling_gap d r : laws d ->
  avg_loss d (tilts d r beta) - avg_loss d d = avg_ln_Z d r beta - avg_reward d r / beta /\
  avg_loss d (tilts d r beta) - avg_loss d d = avg_KL d (tilts d r beta).
Proof.
move=> ld; split; first exact: avg_loss_change_tilt.
rewrite avg_loss_change_KL ?avg_KL_refl //; first by ring.
  exact: laws_tilts.
exact: dominated_tilts.
Qed.

Theorem avg_coupling d r : laws d ->
  0 <= avg_loss d (tilts d r beta) - avg_loss d d /\
  (avg_loss d (tilts d r beta) - avg_loss d d = 0 <->
   forall x, 0 < q x -> forall y z, 0 < d x y -> 0 < d x z -> r x y = r x z).
Proof.
move=> ld; rewrite /avg_loss -E_minus.
have c x := coupling (r x) (ld x) beta0.
have c0 x : 0 <= CE (d x) (tilts d r beta x) - CE (d x) (d x) by case: (c x).
split; first exact: E_ge0.
by rewrite avg_eq0 //; split=> h x qx; case: (c x) => _ [c1 c2]; [apply: c1 | apply: c2]; exact: h.
Qed.

(** S3, Hoeffding. *)
Theorem avg_coupling_hoeffding d r m w : laws d -> (forall x y, m x <= r x y <= m x + w) ->
  avg_loss d (tilts d r beta) - avg_loss d d <= w ^ 2 / (8 * beta ^ 2).
Proof.
move=> ld mM; rewrite /avg_loss -E_minus -(E_const (w ^ 2 / (8 * beta ^ 2)) lq).
apply: E_le => // x; have := coupling_hoeffding (ld x) beta0 (mM x).
by rewrite (_ : m x + w - m x = w) //; ring.
Qed.

(** S4: the averaged loss grows with the time s. *)
Theorem avg_loss_monotone d r s t : laws d -> 0 <= s <= t ->
  avg_loss d (fun x => tilt_at (d x) (r x) s) <= avg_loss d (fun x => tilt_at (d x) (r x) t).
Proof.
by move=> ld st; apply: E_le => // x; have := loss_monotone (r x) (ld x) st; lra.
Qed.

(** Pinsker for averages. *)
Lemma avg_pinsker d p r m w : laws d -> laws p -> all_dominated d p ->
  (forall x y, m x <= r x y <= m x + w) ->
  2 * (avg_reward d r - avg_reward p r) ^ 2 <= w ^ 2 * avg_KL d p.
Proof.
move=> ld lp dp mM; rewrite /avg_reward -E_minus.
apply: (Rle_trans _ (2 * E q (fun x => (E (d x) (r x) - E (p x) (r x)) ^ 2))).
  by apply: Rmult_le_compat_l; [lra | exact: E_square].
rewrite -E_scal /avg_KL -E_scal; apply: E_le => // x.
by have := pinsker (ld x) (lp x) (dp x) (mM x); rewrite (_ : m x + w - m x = w) //; ring.
Qed.

Lemma width_ge0 d r m w : laws d -> (forall x y, m x <= r x y <= m x + w) -> 0 <= w.
Proof.
move=> ld mM; have [x _] := law_support lq; have [y _] := law_support (ld x).
by move: (mM x y); lra.
Qed.

(** S5, Pinsker form. *)
Theorem avg_price_of_reward_pinsker d p r m w : laws d -> laws p -> all_dominated d p ->
  (forall x y, m x <= r x y <= m x + w) -> 0 < w ->
  2 * (avg_reward p r - avg_reward d r) ^ 2 / w ^ 2 <= avg_loss d p - avg_loss d d.
Proof.
move=> ld lp dp mM w0; rewrite avg_loss_change_KL ?avg_KL_refl // Rminus_0_r.
have w2 : 0 < w ^ 2 by apply: pow_lt.
have := avg_pinsker ld lp dp mM.
rewrite (_ : (avg_reward d r - _) ^ 2 = (avg_reward p r - avg_reward d r) ^ 2); last by ring.
move=> h; apply: (Rmult_le_reg_l (w ^ 2)) => //.
by rewrite (_ : _ * (2 * _ / _) = 2 * (avg_reward p r - avg_reward d r) ^ 2) //; field; lra.
Qed.

(** S5, S7: each prompt with its own target, bound and dual variable. *)
Theorem avg_price_of_reward d p r (c M l : X -> R) : laws d -> laws p -> all_dominated d p ->
  (forall x y, r x y <= M x) -> (forall x, c x < M x) -> (forall x, c x <= E (p x) (r x)) ->
  (forall x, 0 <= l x < 1) ->
  E q (fun x => E (d x) (fun y => ln (1 - l x * (r x y - c x) / (M x - c x)))) <= avg_KL d p.
Proof. by move=> ld lp dp rM cM cp l01; apply: E_le => // x; exact: price_of_reward. Qed.

Theorem avg_approximate_optimum_dual d p ref r (c M l : X -> R) eps : laws d -> laws p -> laws ref ->
  all_dominated d p -> all_dominated d ref ->
  (forall x y, r x y <= M x) -> (forall x, c x < M x) -> (forall x, c x <= E (p x) (r x)) ->
  (forall x, 0 <= l x < 1) -> avg_KL d ref <= eps ->
  E q (fun x => E (d x) (fun y => ln (1 - l x * (r x y - c x) / (M x - c x)))) - eps
  <= avg_loss d p - avg_loss d ref.
Proof.
move=> ld lp lr dp dr rM cM cp l01 close; rewrite avg_loss_change_KL //.
by have := avg_price_of_reward ld lp dp rM cM cp l01; lra.
Qed.

(** S6. *)
Theorem avg_threshold_identity d ref r : laws d -> laws ref -> all_dominated d ref ->
  avg_loss d (tilts ref r beta) - avg_loss d ref =
  avg_KL ref (tilts ref r beta) - (avg_reward d r - avg_reward ref r) / beta.
Proof.
move=> ld lr dr; rewrite /avg_loss /avg_KL /avg_reward -!E_minus -E_div -E_minus.
by apply: E_ext => x; exact: threshold_identity.
Qed.

Theorem avg_threshold_iff d ref r : laws d -> laws ref -> all_dominated d ref ->
  avg_loss d (tilts ref r beta) < avg_loss d ref <-> beta * avg_ln_Z ref r beta < avg_reward d r.
Proof.
move=> ld lr dr; have := avg_loss_change_tilt r ld lr dr.
set e := avg_reward d r / beta; have -> : avg_reward d r = beta * e by rewrite /e; field; lra.
split=> h; first by apply: Rmult_lt_compat_l; lra.
by apply Rmult_lt_reg_l in h => //; lra.
Qed.

Theorem avg_threshold_pinsker d ref r m w : laws d -> laws ref -> all_dominated d ref ->
  (forall x y, m x <= r x y <= m x + w) -> 0 < w ->
  avg_KL d ref < 2 * (beta * avg_KL ref (tilts ref r beta) / w) ^ 2 ->
  avg_loss d ref < avg_loss d (tilts ref r beta).
Proof.
move=> ld lr dr mM w0 close; set k := avg_KL ref (tilts ref r beta) in close *.
have k0 : 0 <= k.
  by apply: avg_KL_ge0 => //; [exact: laws_tilts | apply: dominated_tilts => //; move=> x;
    exact: dominated_refl].
apply: Rnot_le_lt => le; have id := avg_threshold_identity r ld lr dr; rewrite -/k in id.
set g := avg_reward d r - avg_reward ref r in id.
have gain : beta * k <= g.
  rewrite (_ : g = beta * (g / beta)); last by field; lra.
  by apply: Rmult_le_compat_l; lra.
have bk := Rmult_le_pos _ _ (Rlt_le _ _ beta0) k0.
have sq : (beta * k) ^ 2 <= g ^ 2 by apply: pow_incr; lra.
have w2 : 0 < w ^ 2 by apply: pow_lt.
have := avg_pinsker ld lr dr mM; rewrite -/g.
have := Rmult_lt_compat_l _ _ _ w2 close.
by rewrite (_ : _ * (2 * _) = 2 * (beta * k) ^ 2); [lra | field; lra].
Qed.

Theorem avg_threshold_exact_radius d ref r t : laws d -> laws ref -> all_dominated d ref -> 0 < t ->
  avg_reward (fun x => tilt_at (ref x) (r x) t) r = beta * avg_ln_Z ref r beta ->
  avg_KL d ref < avg_KL (fun x => tilt_at (ref x) (r x) t) ref ->
  avg_loss d ref < avg_loss d (tilts ref r beta).
Proof.
move=> ld lr dr t0 tE close; apply: Rnot_le_lt => le.
have id := avg_loss_change_tilt r ld lr dr.
have gain : beta * avg_ln_Z ref r beta <= avg_reward d r.
  rewrite (_ : avg_reward d r = beta * (avg_reward d r / beta)); last by field; lra.
  by apply: Rmult_le_compat_l; lra.
set lnz := fun x => ln (E (ref x) (fun y => exp (t * r x y))).
have k1 : 0 <= avg_KL d ref - t * avg_reward d r + E q lnz.
  rewrite -E_scal -E_minus -E_plus; apply: E_ge0 => // x.
  rewrite -E_scal -KL_gibbs //; apply: KL_ge0 => //; first exact: gibbs_law.
  exact: dominated_gibbs.
have k2 : avg_KL (fun x => tilt_at (ref x) (r x) t) ref =
          t * avg_reward (fun x => tilt_at (ref x) (r x) t) r - E q lnz.
  rewrite -E_scal -E_minus; apply: E_ext => x; rewrite -E_scal; exact: KL_gibbs_self.
rewrite k2 tE in close.
by have := Rmult_le_compat_l _ _ _ (Rlt_le _ _ t0) gain; lra.
Qed.

(** S7. *)
Theorem avg_approximate_optimum d p ref r m w eps : laws d -> laws p -> laws ref ->
  all_dominated d p -> all_dominated d ref -> (forall x y, m x <= r x y <= m x + w) ->
  avg_KL d ref <= eps ->
  avg_reward p r <= avg_reward d r + w * sqrt ((eps + (avg_loss d p - avg_loss d ref)) / 2).
Proof.
move=> ld lp lr dp dr mM close; rewrite avg_loss_change_KL //.
have k0 := avg_KL_ge0 ld lp dp; have w0 := width_ge0 ld mM.
have : Rabs (avg_reward d r - avg_reward p r) <= w * sqrt ((eps + (avg_KL d p - avg_KL d ref)) / 2).
  apply: abs_le_sqrt; [by [] | by lra |].
  apply: (Rle_trans _ _ _ (avg_pinsker ld lp dp mM)).
  by apply: Rmult_le_compat_l; [exact: pow2_ge_0 | lra].
by move: (Rle_abs (- (avg_reward d r - avg_reward p r))); rewrite Rabs_Ropp; lra.
Qed.

(** R2, R3. *)
Theorem avg_reward_drop p ref r : laws p -> laws ref -> all_dominated p ref ->
  avg_reward (tilts ref r beta) r - avg_reward p r =
  beta * (avg_KL p (tilts ref r beta) + avg_KL (tilts ref r beta) ref - avg_KL p ref).
Proof.
move=> lp lr pr; rewrite /avg_reward /avg_KL -E_plus -!E_minus -E_scal.
by apply: E_ext => x; exact: reward_drop.
Qed.

Theorem avg_reward_drop_iff p ref r : laws p -> laws ref -> all_dominated p ref ->
  avg_reward p r < avg_reward (tilts ref r beta) r <->
  avg_KL p ref < avg_KL p (tilts ref r beta) + avg_KL (tilts ref r beta) ref.
Proof.
move=> lp lr pr; have := avg_reward_drop r lp lr pr.
set k := _ + _ - avg_KL p ref => e; split=> h; last first.
  by have := Rmult_lt_0_compat beta k beta0 ltac:(rewrite /k; lra); lra.
suff: 0 < k by rewrite /k; lra.
by apply: (Rmult_lt_reg_l beta); lra.
Qed.

Theorem avg_reward_drop_in_kl_ball p ref r : laws p -> laws ref -> all_dominated p ref ->
  avg_KL p ref <= avg_KL (tilts ref r beta) ref ->
  avg_reward p r <= avg_reward (tilts ref r beta) r - beta * avg_KL p (tilts ref r beta) /\
  (forall x y, 0 < q x -> p x y <> tilts ref r beta x y ->
   avg_reward p r < avg_reward (tilts ref r beta) r).
Proof.
move=> lp lr pr ball; have e := avg_reward_drop r lp lr pr.
have b := Rmult_le_compat_l _ _ _ (Rlt_le _ _ beta0) ball.
have lt := laws_tilts r lr; have dt := @dominated_tilts p ref r lr pr.
split; first by lra.
move=> x y qx neq; case: (avg_KL_ge0 lp lt dt) => k0.
  by have := Rmult_lt_0_compat _ _ beta0 k0; lra.
have kx z : 0 <= KL (p z) (tilts ref r beta z) by apply: KL_ge0.
case: neq; symmetry in k0; move: k0 => /(avg_eq0 kx) /(_ x qx) /KL_eq0 h.
exact: h.
Qed.

(** R4, Pinsker form. *)
Theorem avg_reward_change_pinsker p ref r m w : laws p -> laws ref -> all_dominated p ref ->
  (forall x y, m x <= r x y <= m x + w) ->
  Rabs (avg_reward p r - avg_reward (tilts ref r beta) r) <= w * sqrt (avg_KL p (tilts ref r beta) / 2).
Proof.
move=> lp lr pr mM; have lt := laws_tilts r lr; have dt := @dominated_tilts p ref r lr pr.
apply: abs_le_sqrt; [exact: width_ge0 lp mM | exact: avg_KL_ge0 | exact: avg_pinsker].
Qed.

(** R4, Bretagnolle-Huber: Jensen for the square and for e^{-x}. *)
Theorem avg_reward_change_bretagnolle_huber p ref r m w : laws p -> laws ref -> all_dominated p ref ->
  (forall x y, m x <= r x y <= m x + w) ->
  Rabs (avg_reward p r - avg_reward (tilts ref r beta) r) <=
  w * sqrt (1 - exp (- avg_KL p (tilts ref r beta))).
Proof.
move=> lp lr pr mM; have lt := laws_tilts r lr; have dt := @dominated_tilts p ref r lr pr.
set k := fun x => KL (p x) (tilts ref r beta x);
  set D := fun x => E (p x) (r x) - E (tilts ref r beta x) (r x).
have w0 := width_ge0 lp mM; have w2 : 0 <= w ^ 2 by exact: pow2_ge_0.
have Dx x : D x ^ 2 <= w ^ 2 * (1 - exp (- k x)).
  apply: (Rle_trans _ (w ^ 2 * TV (p x) (tilts ref r beta x) ^ 2)); last first.
    by apply: Rmult_le_compat_l => //; exact: bretagnolle_huber.
  have := expectation_difference_TV (lp x) (lt x) (mM x); rewrite -/(D x) (_ : m x + w - m x = w);
    last by ring.
  move=> h; rewrite -Rpow_mult_distr -(pow2_abs (D x)).
  by apply: pow_incr; split; [exact: Rabs_pos | exact: h].
have jensen : exp (- avg_KL p (tilts ref r beta)) <= E q (fun x => exp (- k x)).
  have := donsker_varadhan (fun x => - k x) lq lq (@dominated_refl _ q).
  rewrite KL_refl // Rminus_0_r (_ : E q (fun x => - k x) = - avg_KL p (tilts ref r beta)).
    rewrite -[X in _ -> _ <= X](exp_ln _ (E_exp_gt0 (fun x => - k x) lq)).
    by case=> [/exp_increasing/Rlt_le //|->]; exact: Rle_refl.
  by rewrite /E collect; apply: sum_ext => x; rewrite /k; ring.
have D2 : (E q D) ^ 2 <= w ^ 2 * (1 - exp (- avg_KL p (tilts ref r beta))).
  apply: (Rle_trans _ _ _ (E_square D lq)); apply: (Rle_trans _ _ _ (E_le lq Dx)).
  by rewrite E_scal E_minus E_const //; apply: Rmult_le_compat_l; lra.
rewrite (_ : avg_reward p r - _ = E q D); last by rewrite /D E_minus.
have := @abs_le_sqrt (E q D) w (2 * (1 - exp (- avg_KL p (tilts ref r beta)))) w0.
rewrite (_ : 2 * _ / 2 = 1 - exp (- avg_KL p (tilts ref r beta))); last by field.
apply; last by lra.
have k0 := avg_KL_ge0 lp lt dt.
suff: exp (- avg_KL p (tilts ref r beta)) <= 1 by lra.
by rewrite -[X in _ <= X]exp_0; case: k0 => [h|<-]; [apply/Rlt_le/exp_increasing | rewrite Ropp_0]; lra.
Qed.

(** R6. *)
Theorem avg_cycle_gain d r : laws d ->
  avg_reward (tilts d r beta) r - avg_reward d r =
  beta * (avg_KL d (tilts d r beta) + avg_KL (tilts d r beta) d).
Proof.
move=> ld; rewrite /avg_reward /avg_KL -E_plus -E_minus -E_scal.
by apply: E_ext => x; exact: cycle_gain.
Qed.

(** R8. *)
Theorem avg_regularised_drop_between p1 p2 ref r : laws p1 -> laws p2 -> laws ref ->
  all_dominated p1 ref -> all_dominated p2 ref ->
  avg_Jb p1 ref r beta - avg_Jb p2 ref r beta =
  beta * (avg_KL p2 (tilts ref r beta) - avg_KL p1 (tilts ref r beta)).
Proof.
move=> l1 l2 lr p1r p2r; have := avg_regularised_reward_gap r l1 lr p1r.
by have := avg_regularised_reward_gap r l2 lr p2r; lra.
Qed.

Theorem avg_regularised_drop_suboptimal p1 p2 ref r delta : laws p1 -> laws p2 -> laws ref ->
  all_dominated p1 ref -> all_dominated p2 ref ->
  avg_Jb (tilts ref r beta) ref r beta - avg_Jb p1 ref r beta <= delta ->
  beta * avg_KL p2 (tilts ref r beta) - delta <= avg_Jb p1 ref r beta - avg_Jb p2 ref r beta.
Proof.
by move=> l1 l2 lr p1r p2r sub; have := avg_regularised_reward_gap r l2 lr p2r; lra.
Qed.

(** P1. *)
Theorem avg_pl_sft_loss p d (m0 q_min : R) : laws p -> laws d -> 0 < m0 -> (forall x y, m0 <= p x y) ->
  0 <= q_min -> (forall x, q_min <= q x) ->
  q_min * m0 / 2 * avg_KL d p <=
  1 / 2 * (\sum_(x : X) (q x ^ 2 * (\sum_(y : Y x) (p x y - d x y) ^ 2))).
Proof.
move=> lp ld m00 mp q0 qq; rewrite /avg_KL /E !sum_scal; apply: sum_le => x.
have k0 : 0 <= KL (d x) (p x).
  by apply: KL_ge0 => //; apply: full_dominates => y; move: (mp x y); lra.
have pl := pl_sft_loss (lp x) (ld x) m00 (mp x); have qx := qq x.
have := Rmult_le_compat_l (q x ^ 2) _ _ (pow2_ge_0 _) pl.
have mk : 0 <= q x * (m0 / 2 * KL (d x) (p x)) by repeat apply: Rmult_le_pos; lra.
have := Rmult_le_compat_r _ _ _ mk qx.
by lra.
Qed.

(** J2. *)
Theorem avg_no_free_order p (joint : forall x, Y x -> R) d ref r (mu : X -> R) lambda :
  laws p -> laws joint -> laws d -> (forall x y, 0 < ref x y) -> (forall x y, 0 < joint x y) ->
  all_dominated d p -> 0 <= lambda ->
  (forall x, joint_stationary (joint x) (d x) (ref x) (r x) beta lambda (mu x)) ->
  avg_Jb p ref r beta - avg_Jb joint ref r beta <= lambda * (avg_loss d p - avg_loss d joint).
Proof.
move=> lp lj ld r0 j0 dp l0 st; rewrite !avg_Jb_E /avg_loss -!E_minus -E_scal; apply: E_le => // x.
exact: (joint_optimal (lp x) (lj x) (ld x) (r0 x) (j0 x) (dp x) beta0 l0 (st x)).
Qed.

End Averages.
