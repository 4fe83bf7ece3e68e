(** * The facts of one-variable calculus that the theorems rest on

    - [ln t <= t - 1], with its equality case, behind every Gibbs inequality;
    - convexity of [exp] and [ln (1 - m + m e^h) <= m h + h^2 / 8], behind Hoeffding and Pinsker;
    - (e^u - 1 - u) / u^2 is nondecreasing, behind the two-point bounds of S3;
    - the derivative of a finite sum, behind S4. *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

(** ** Logarithm and exponential *)

Lemma exp_tangent x : 1 + x <= exp x.
Proof. by case: (Req_dec x 0) => [->|/exp_ineq1]; rewrite ?exp_0; lra. Qed.

Lemma ln_le_sub1 t : 0 < t -> ln t <= t - 1.
Proof. by move=> t0; move: (exp_tangent (ln t)); rewrite exp_ln //; lra. Qed.

Lemma ln_eq_sub1 t : 0 < t -> ln t = t - 1 -> t = 1.
Proof.
move=> t0 e; case: (Req_dec (ln t) 0) => [|/exp_ineq1]; first by lra.
by rewrite exp_ln //; lra.
Qed.

Lemma ln_quotient a b : 0 < a -> 0 < b -> ln (a / b) = ln a - ln b.
Proof. by move=> a0 b0; rewrite /Rdiv ln_mult ?ln_Rinv //; exact: Rinv_0_lt_compat. Qed.

Lemma exp_convex t a b : 0 <= t <= 1 -> exp ((1 - t) * a + t * b) <= (1 - t) * exp a + t * exp b.
Proof.
move=> t01; set c := (1 - t) * a + t * b.
have line x : exp c * (1 + (x - c)) <= exp x.
  have -> : exp x = exp c * exp (x - c) by rewrite -exp_plus; congr exp; lra.
  by apply: Rmult_le_compat_l (exp_tangent _); move: (exp_pos c); lra.
have la := Rmult_le_compat_l (1 - t) _ _ ltac:(lra) (line a).
have lb := Rmult_le_compat_l t _ _ ltac:(lra) (line b).
suff: exp c = (1 - t) * (exp c * (1 + (a - c))) + t * (exp c * (1 + (b - c))) by lra.
by rewrite /c; ring.
Qed.

(** ** From derivatives to inequalities *)

(** A function with a nonnegative derivative on [a, b] does not decrease there. *)
Lemma nondecreasing_between (f f' : R -> R) a b :
  (forall x, a <= x <= b -> is_derive f x (f' x)) -> (forall x, a <= x <= b -> 0 <= f' x) ->
  a <= b -> f a <= f b.
Proof.
move=> df f0 ab.
have mn : Rmin a b = a by rewrite Rmin_left.
have mx : Rmax a b = b by rewrite Rmax_right.
have [||c [hc e]] := @MVT_gen f a b f'.
- by rewrite mn mx => x hx; apply: df; lra.
- rewrite mn mx => x hx; apply/continuity_pt_filterlim.
  by apply: ex_derive_continuous; exists (f' x); apply: df.
- rewrite mn mx in hc.
  by have := Rmult_le_pos _ (b - a) (f0 c hc) ltac:(lra); lra.
Qed.

(** Where the derivative is positive there are larger values close by on the right. *)
Lemma uphill (f : R -> R) x l eps : is_derive f x l -> 0 < l -> 0 < eps ->
  exists h, 0 < h < eps /\ f x < f (x + h).
Proof.
move=> /is_derive_Reals D l0 e0; have [[delta d0] near] := D l l0; rewrite /= in near.
set h := Rmin delta eps / 2; have m0 : 0 < Rmin delta eps by exact: Rmin_glb_lt.
have hd := Rmin_l delta eps; have he := Rmin_r delta eps.
have h0 : 0 < h by rewrite /h; lra.
exists h; split; first by rewrite /h in h0 *; lra.
have := near h ltac:(lra) ltac:(rewrite Rabs_pos_eq /h; lra).
move=> /Rabs_lt_between [low _]; have q : 0 < (f (x + h) - f x) / h by lra.
by have := Rmult_lt_0_compat _ _ q h0; rewrite (_ : _ / h * h = f (x + h) - f x); [lra | field; lra].
Qed.

(** If [f' 0 = 0] and [f'' >= 0] then [f] is smallest at 0. *)
Lemma second_derivative_test (f f' f'' : R -> R) :
  (forall x, is_derive f x (f' x)) -> (forall x, is_derive f' x (f'' x)) ->
  (forall x, 0 <= f'' x) -> f' 0 = 0 -> forall x, f 0 <= f x.
Proof.
move=> df df' f2 f10 x.
have mono a b : a <= b -> f' a <= f' b by apply: nondecreasing_between => *; [exact: df' | exact: f2].
case: (Rle_lt_dec 0 x) => x0.
  by apply: (@nondecreasing_between f f') => // y hy; move: (mono 0 y); lra.
suff: - f x <= - f 0 by lra.
apply: (@nondecreasing_between (fun y => - f y) (fun y => - f' y)) => [y _|y hy|]; last by lra.
  exact: is_derive_opp.
by move: (mono y 0); lra.
Qed.

(** The log-moment-generating function of a coin with mean m is at most m h + h^2 / 8. *)
Lemma coin_log_mgf m h : 0 <= m <= 1 -> ln (1 - m + m * exp h) <= m * h + h ^ 2 / 8.
Proof.
move=> m01.
have D x : 0 < 1 - m + m * exp x.
  move: (exp_pos x) => e0; case: (Req_dec m 0) => [->|m0]; first by lra.
  by move: (Rmult_lt_0_compat m (exp x)); lra.
set f := fun x => m * x + x ^ 2 / 8 - ln (1 - m + m * exp x).
set f' := fun x => m + x / 4 - m * exp x / (1 - m + m * exp x).
set f'' := fun x => 1 / 4 - m * exp x * (1 - m) / (1 - m + m * exp x) ^ 2.
suff: f 0 <= f h by rewrite /f exp_0 (_ : 1 - m + m * 1 = 1) ?ln_1; lra.
apply: (@second_derivative_test f f' f'') => [x|x|x|].
- by rewrite /f /f'; auto_derive; [exact: D | field; move: (D x); lra].
- by rewrite /f' /f''; auto_derive; [move: (D x); lra | field; move: (D x); lra].
- rewrite /f''; set e := m * exp x; have d0 := D x; rewrite -/e in d0.
  rewrite (_ : 1 / 4 - _ = (1 - m - e) ^ 2 * / (4 * (1 - m + e) ^ 2)); last by field; lra.
  apply: Rmult_le_pos; first exact: pow2_ge_0.
  by apply/Rlt_le/Rinv_0_lt_compat; move: (pow_lt _ 2 d0); lra.
- by rewrite /f' exp_0; field; lra.
Qed.

(** ** (e^u - 1 - u) / u^2 is nondecreasing, written without division; other quadratic bounds *)

Lemma exp_taylor2 x : (0 <= x -> 1 + x + x ^ 2 / 2 <= exp x) /\ (x <= 0 -> exp x <= 1 + x + x ^ 2 / 2).
Proof.
set f := fun x => exp x - 1 - x - x ^ 2 / 2.
have mono a b : a <= b -> f a <= f b.
  apply: (@nondecreasing_between f (fun x => exp x - 1 - x)) => y _; last by move: (exp_tangent y); lra.
  by rewrite /f; auto_derive => //; field.
have f0 : f 0 = 0 by rewrite /f exp_0; lra.
by split=> h; [move: (mono 0 x h) | move: (mono x 0 h)]; rewrite f0 /f; lra.
Qed.

(** The remainder of (2 + x)/(2 - x) against e^x, written without division, is nondecreasing. *)
Lemma exp_pade_monotone a b : a <= b -> (a - 2) * exp a + a + 2 <= (b - 2) * exp b + b + 2.
Proof.
set k := fun x => (x - 2) * exp x + x + 2; rewrite -/(k a) -/(k b).
apply: (@nondecreasing_between k (fun x => (x - 1) * exp x + 1)) => y _.
  by rewrite /k; auto_derive => //; ring.
suff: (1 - y) * exp y <= 1 by lra.
have inv : exp (- y) * exp y = 1 by rewrite -exp_plus Rplus_opp_l exp_0.
by have := Rmult_le_compat_r _ _ _ (Rlt_le _ _ (exp_pos y)) (exp_tangent (- y)); lra.
Qed.

Lemma exp_quadratic_remainder_monotone u w :
  u <= w -> (exp u - 1 - u) * w ^ 2 <= (exp w - 1 - w) * u ^ 2.
Proof.
move=> uw.
set k := fun x => (x - 2) * exp x + x + 2.
have k_mono a b : a <= b -> k a <= k b by exact: exp_pade_monotone.
have k0 : k 0 = 0 by rewrite /k exp_0; lra.
have k_sign x : 0 <= x * k x.
  case: (Rle_lt_dec 0 x) => h.
    by apply: Rmult_le_pos => //; rewrite -k0; exact: k_mono.
  by rewrite -Rmult_opp_opp; apply: Rmult_le_pos; [lra | move: (k_mono x 0); lra].
set g := fun x => (exp x - 1 - x) / x ^ 2.
have same_side : (forall x, u <= x <= w -> x <> 0) -> g u <= g w.
  move=> nz; apply: (@nondecreasing_between g (fun x => x * k x * / (x ^ 2) ^ 2)) => // x /nz x0.
    by rewrite /g /k; auto_derive; [rewrite Rmult_1_r; apply: Rmult_integral_contrapositive | field].
  by apply: Rmult_le_pos (k_sign x) _; apply/Rlt_le/Rinv_0_lt_compat/pow_lt/pow2_gt_0.
case: (Req_dec u 0) => [->|u0]; first by rewrite exp_0; lra.
case: (Req_dec w 0) => [->|w0]; first by rewrite exp_0; lra.
have u2 := pow2_gt_0 u u0; have w2 := pow2_gt_0 w w0.
have undivide : g u <= g w -> (exp u - 1 - u) * w ^ 2 <= (exp w - 1 - w) * u ^ 2.
  move=> le; have := Rmult_le_compat_l _ _ _ (Rlt_le _ _ (Rmult_lt_0_compat _ _ u2 w2)) le.
  rewrite (_ : u ^ 2 * w ^ 2 * g u = (exp u - 1 - u) * w ^ 2); last by rewrite /g; field.
  by rewrite (_ : u ^ 2 * w ^ 2 * g w = (exp w - 1 - w) * u ^ 2); last by rewrite /g; field.
case: (Rle_lt_dec u 0) => hu; last by apply/undivide/same_side => x hx; lra.
case: (Rle_lt_dec w 0) => hw; first by apply/undivide/same_side => x hx; lra.
have [_ /(_ hu) lu] := exp_taylor2 u; have [/(_ (Rlt_le _ _ hw)) lw _] := exp_taylor2 w.
apply: (Rle_trans _ (u ^ 2 / 2 * w ^ 2)); first by apply: Rmult_le_compat_r; lra.
rewrite (_ : u ^ 2 / 2 * w ^ 2 = w ^ 2 / 2 * u ^ 2); last by field.
by apply: Rmult_le_compat_r; lra.
Qed.

(** (2 - w) (e^w - 1 - w) <= w^2 for w >= 0. *)
Lemma exp_quadratic_remainder_le w : 0 <= w -> (2 - w) * (exp w - 1 - w) <= w ^ 2.
Proof. by move=> w0; have := exp_pade_monotone w0; rewrite exp_0; lra. Qed.

(** z ln z lies below its parabola at 1 of second derivative 1/c, as far down as z = c. *)
Lemma entropy_parabola c z : 0 < c <= 1 -> c <= z -> z * ln z <= (z - 1) + (z - 1) ^ 2 / (2 * c).
Proof.
move=> [c0 c1] cz; set h := fun z => (z - 1) + (z - 1) ^ 2 / (2 * c) - z * ln z.
set h' := fun z => (z - 1) / c - ln z.
have dh x : 0 < x -> is_derive h x (h' x) by move=> x0; rewrite /h /h'; auto_derive => //; field; lra.
have h1 : h 1 = 0 by rewrite /h ln_1; field; lra.
suff : 0 <= h z by rewrite /h; lra.
rewrite -h1; have i1 : 1 <= / c by rewrite -Rinv_1; apply: Rinv_le_contravar.
case: (Rle_lt_dec 1 z) => z1.
  apply: (@nondecreasing_between h h') => // x hx; first by apply: dh; lra.
  have := @ln_le_sub1 x ltac:(lra); have := Rmult_le_compat_l (x - 1) _ _ ltac:(lra) i1.
  by rewrite /h' /Rdiv; lra.
suff : - h z <= - h 1 by lra.
apply: (@nondecreasing_between (fun x => - h x) (fun x => - h' x)) => [x hx|x hx|]; last by lra.
  by apply: is_derive_opp; apply: dh; lra.
have x0 : 0 < x by lra.
have := ln_le_sub1 (Rinv_0_lt_compat _ x0); rewrite ln_Rinv // => lnx.
have ix : / x <= / c by apply: Rinv_le_contravar; lra.
have := Rmult_le_compat_l (1 - x) _ _ ltac:(lra) ix.
have xx : x * / x = 1 by apply: Rinv_r; lra.
by rewrite /h' /Rdiv; lra.
Qed.

(** e^w - 1 - w <= w^2 / (2 (1 - w/3)) for w >= 0, written without division. *)
Lemma exp_bernstein w : 0 <= w -> (6 - 2 * w) * (exp w - 1 - w) <= 3 * w ^ 2.
Proof.
set k := fun x => 3 * x ^ 2 - (6 - 2 * x) * (exp x - 1 - x).
set k1 := fun x => 2 * x + 4 - 4 * exp x + 2 * x * exp x.
set k2 := fun x => 2 - 2 * exp x + 2 * x * exp x.
have k2_ge0 x : 0 <= x -> 0 <= k2 x.
  move=> x0; have {1}-> : 0 = k2 0 by rewrite /k2 exp_0; ring.
  apply: (@nondecreasing_between k2 (fun x => 2 * x * exp x)) => // y hy.
    by rewrite /k2; auto_derive => //; ring.
  by apply: Rmult_le_pos; [lra | apply/Rlt_le/exp_pos].
have k1_ge0 x : 0 <= x -> 0 <= k1 x.
  move=> x0; have {1}-> : 0 = k1 0 by rewrite /k1 exp_0; ring.
  apply: (@nondecreasing_between k1 k2) => // y hy; last by apply: k2_ge0; lra.
  by rewrite /k1 /k2; auto_derive => //; ring.
move=> w0; suff: k 0 <= k w by rewrite /k exp_0; lra.
apply: (@nondecreasing_between k k1) => // y hy; last by apply: k1_ge0; lra.
by rewrite /k /k1; auto_derive => //; ring.
Qed.

(** ** Derivative of a finite sum *)

Lemma is_derive_sum (Y : finType) (f f' : Y -> R -> R) s :
  (forall y, is_derive (f y) s (f' y s)) ->
  is_derive (fun s => \sum_(y : Y) f y s) s (\sum_(y : Y) f' y s).
Proof.
move=> df; rewrite /sum; elim: (index_enum Y) => [|y l IH].
  apply: (is_derive_ext (fun _ => 0)) => [t|]; first by rewrite big_nil.
  by rewrite big_nil; exact: is_derive_const.
apply: (is_derive_ext (fun t => f y t + \big[Rplus/0]_(z <- l) f z t)) => [t|];
  first by rewrite big_cons.
by rewrite big_cons; apply: is_derive_plus.
Qed.

Lemma continuity_sum (Y : finType) (f : Y -> R -> R) mu : (forall y, continuity_pt (f y) mu) ->
  continuity_pt (fun mu => \sum_(y : Y) f y mu) mu.
Proof.
move=> cf; rewrite /sum; elim: (index_enum Y) => [|y l IH].
  apply: (continuity_pt_ext (fun _ => 0)) => [t|]; first by rewrite big_nil.
  by apply: continuity_pt_const.
apply: (continuity_pt_ext (fun t => f y t + \big[Rplus/0]_(z <- l) f z t)) => [t|];
  first by rewrite big_cons.
exact: (continuity_pt_plus _ _ _ (cf y) IH).
Qed.

(** A continuous function that goes from >= 0 to <= 0 has a zero on the way. *)
Lemma zero_between (f : R -> R) a b : (forall x, a <= x <= b -> continuity_pt f x) -> a <= b ->
  0 <= f a -> f b <= 0 -> exists x, a <= x <= b /\ f x = 0.
Proof.
move=> cf ab fa fb; case: fa => [fa|fa]; last by exists a; split; lra.
case: fb => [fb|fb]; last by exists b; split; lra.
case: ab => [ab|ab]; last by rewrite ab in fa; lra.
have [x [hx z]] := Ranalysis5.IVT_interv (fun x => - f x) a b
  (fun x hx => continuity_pt_opp _ _ (cf x hx)) ab ltac:(cbv beta; lra) ltac:(cbv beta; lra).
by exists x; split=> //; lra.
Qed.
