(** * Concentration: Hoeffding's lemma, Pinsker's inequality, the two-point bounds of Bennett *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype seq fintype bigop.
From Coquelicot Require Import Rcomplements.
From NonDecoupling Require Import Sums Calculus Policies Foundations.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

Section Concentration.
Variable Y : finType.
Implicit Types (p d : Y -> R) (f r : Y -> R).

(** Hoeffding's lemma with the constant 1/8. *)
Theorem hoeffding p f m M l : law p -> (forall y, m <= f y <= M) ->
  ln (E p (fun y => exp (l * f y))) - l * E p f <= l ^ 2 * (M - m) ^ 2 / 8.
Proof.
move=> lp mM; have eb := E_bounds lp mM; have e0 := E_exp_gt0 (fun y => l * f y) lp.
case: (Req_dec M m) => [MM|neq].
  have fm y : f y = m by move: (mM y); lra.
  rewrite (@E_ext _ _ _ (fun _ => exp (l * m))); last by move=> y; rewrite fm.
  by rewrite (@E_ext _ _ f (fun _ => m)) // !E_const // ln_exp MM; lra.
have w0 : 0 < M - m by lra.
set mu := (E p f - m) / (M - m).
have mu01 : 0 <= mu <= 1.
  by split; [apply: Rle_mult_inv_pos; lra | apply: (Rmult_le_reg_r (M - m)) => //; rewrite /mu;
    field_simplify; lra].
have muE : mu * (M - m) = E p f - m by rewrite /mu; field; lra.
have chord y : exp (l * f y) <= exp (l * m) + (exp (l * M) - exp (l * m)) / (M - m) * (f y - m).
  set t := (f y - m) / (M - m); have tE : t * (M - m) = f y - m by rewrite /t; field; lra.
  have t01 : 0 <= t <= 1.
    by move: (mM y) => h; split; [apply: Rle_mult_inv_pos; lra | apply: (Rmult_le_reg_r (M - m)) => //;
      lra].
  have := exp_convex (l * m) (l * M) t01.
  rewrite (_ : (1 - t) * (l * m) + t * (l * M) = l * f y); last first.
    by rewrite (_ : f y = m + t * (M - m)); [ring | lra].
  by rewrite -tE (_ : _ / _ * _ = (exp (l * M) - exp (l * m)) * t); [lra | field; lra].
have le : E p (fun y => exp (l * f y)) <= exp (l * m) * (1 - mu + mu * exp (l * (M - m))).
  apply: (Rle_trans _ _ _ (E_le lp chord)).
  rewrite E_plus E_const // E_scal E_minus E_const // -muE.
  rewrite (_ : exp (l * M) = exp (l * m) * exp (l * (M - m))); last by rewrite -exp_plus; congr exp;
    ring.
  by apply: Req_le; field; lra.
have pos : 0 < 1 - mu + mu * exp (l * (M - m)).
  apply: (Rmult_lt_reg_l (exp (l * m))); first exact: exp_pos.
  by rewrite Rmult_0_r; apply: Rlt_le_trans le.
have lnle : ln (E p (fun y => exp (l * f y))) <= l * m + ln (1 - mu + mu * exp (l * (M - m))).
  by rewrite -{1}(ln_exp (l * m)) -ln_mult //;
    [case: le => [/(ln_increasing _ _ e0)|->]; lra | exact: exp_pos].
have := coin_log_mgf (l * (M - m)) mu01.
have -> : mu * (l * (M - m)) = l * E p f - l * m by transitivity (l * (mu * (M - m)));
  [ring | rewrite muE; ring].
have -> : (l * (M - m)) ^ 2 = l ^ 2 * (M - m) ^ 2 by ring.
by lra.
Qed.

(** Pinsker's inequality, in the form 2 (E_d f - E_p f)^2 <= (max f - min f)^2 KL(d‖p): Hoeffding's
    lemma in the Donsker-Varadhan inequality, with the best multiple of f. *)
Theorem pinsker d p f m M : law d -> law p -> d ≪ p -> (forall y, m <= f y <= M) ->
  2 * (E d f - E p f) ^ 2 <= (M - m) ^ 2 * KL d p.
Proof.
move=> ld lp dp mM; have bd := E_bounds ld mM; have bp := E_bounds lp mM.
set D := E d f - E p f.
case: (Req_dec M m) => [MM|neq].
  by rewrite (_ : D = 0) ?MM; [lra | rewrite /D; lra].
have w0 : 0 < (M - m) ^ 2 by apply: pow_lt; lra.
set l := 4 * D / (M - m) ^ 2.
have lE : l * (M - m) ^ 2 = 4 * D by rewrite /l; field; lra.
have := donsker_varadhan (fun y => l * f y) ld lp dp; have := hoeffding l lp mM.
rewrite E_scal => h dv.
have key : l * D - l ^ 2 * (M - m) ^ 2 / 8 <= KL d p by rewrite /D; lra.
have := Rmult_le_compat_l _ _ _ (Rlt_le _ _ w0) key.
have -> : (M - m) ^ 2 * (l * D - l ^ 2 * (M - m) ^ 2 / 8) =
          (l * (M - m) ^ 2) * D - (l * (M - m) ^ 2) ^ 2 / 8 by field.
by rewrite lE; lra.
Qed.

Lemma abs_le_sqrt D w A : 0 <= w -> 0 <= A -> 2 * D ^ 2 <= w ^ 2 * A -> Rabs D <= w * sqrt (A / 2).
Proof.
move=> w0 A0 le; have s0 := sqrt_pos (A / 2); have sE := sqrt_sqrt (A / 2) ltac:(lra).
have ws0 := Rmult_le_pos _ _ w0 s0.
have le2 : D * D <= (w * sqrt (A / 2)) * (w * sqrt (A / 2)).
  have -> : (w * sqrt (A / 2)) * (w * sqrt (A / 2)) = w * w * (sqrt (A / 2) * sqrt (A / 2)) by ring.
  by rewrite sE; lra.
by rewrite -(Rabs_pos_eq _ ws0); apply: Rsqr_le_abs_0.
Qed.

(** Bennett: among the laws with mean 0, variance v and values at most b, a two-point law has the
    largest E e^X; with -a for b it has the smallest one among those with values at least -a. *)
Lemma bennett_algebra p f v b : law p -> E p f = 0 -> E p (fun y => f y ^ 2) = v -> b <> 0 ->
  let x0 := - v / b in let U := b - x0 in
  E p (fun y => exp x0 * (1 + (f y - x0) + (f y - x0) ^ 2 * ((exp U - 1 - U) / U ^ 2)))
  = (b ^ 2 * exp (- v / b) + v * exp b) / (b ^ 2 + v).
Proof.
move=> lp e0 ev b0 x0 U.
have v0 : 0 <= v by rewrite -ev; apply: E_ge0 => // y; exact: pow2_ge_0.
have b2 := pow2_gt_0 b b0.
have UE : U = (b ^ 2 + v) / b by rewrite /U /x0; field.
have expb : exp b = exp x0 * exp U by rewrite -exp_plus; congr exp; rewrite /U; ring.
have U0 : U <> 0.
  rewrite UE => h; suff: b ^ 2 + v = 0 by lra.
  by rewrite (_ : b ^ 2 + v = (b ^ 2 + v) / b * b); [rewrite h; ring | field].
set g := (exp U - 1 - U) / U ^ 2.
rewrite (@E_ext _ _ _ (fun y => exp x0 * (1 - x0 + x0 ^ 2 * g) + exp x0 * (1 - 2 * x0 * g) * f y
                                + exp x0 * g * f y ^ 2)); last by move=> y; ring.
rewrite !E_plus !E_scal E_const // e0 ev -/x0 expb /g.
have -> : x0 = b - U by rewrite /U; ring.
have -> : v = b * U - b ^ 2 by rewrite UE; field.
field; split=> //.
by rewrite (_ : b ^ 2 + (b * U - b ^ 2) = b * U); [exact: Rmult_integral_contrapositive | ring].
Qed.

Theorem bennett_upper p f v b : law p -> E p f = 0 -> E p (fun y => f y ^ 2) = v -> 0 < b ->
  (forall y, f y <= b) ->
  E p (fun y => exp (f y)) <= (b ^ 2 * exp (- v / b) + v * exp b) / (b ^ 2 + v).
Proof.
move=> lp e0 ev b0 fb; rewrite -(bennett_algebra lp e0 ev (Rgt_not_eq _ _ b0)).
have v0 : 0 <= v by rewrite -ev; apply: E_ge0 => // y; exact: pow2_ge_0.
set x0 := - v / b; set U := b - x0.
have x00 : x0 <= 0 by rewrite /x0 /Rdiv Ropp_mult_distr_l_reverse; move: (Rle_mult_inv_pos _ _ v0 b0);
  rewrite /Rdiv; lra.
have U2 : 0 < U ^ 2 by apply: pow_lt; rewrite /U; lra.
apply: E_le => // y.
have -> : exp (f y) = exp x0 * exp (f y - x0) by rewrite -exp_plus; congr exp; ring.
apply: Rmult_le_compat_l; first exact/Rlt_le/exp_pos.
have := @exp_quadratic_remainder_monotone (f y - x0) U ltac:(rewrite /U; move: (fb y); lra).
set u := f y - x0 => h; suff: exp u - 1 - u <= u ^ 2 * ((exp U - 1 - U) / U ^ 2) by lra.
apply: (Rmult_le_reg_r (U ^ 2)) => //; rewrite (_ : u ^ 2 * _ * _ = (exp U - 1 - U) * u ^ 2) //.
by field; move=> z; rewrite z in U2; lra.
Qed.

Theorem bennett_lower p f v a : law p -> E p f = 0 -> E p (fun y => f y ^ 2) = v -> 0 < a ->
  (forall y, - a <= f y) ->
  (a ^ 2 * exp (v / a) + v * exp (- a)) / (a ^ 2 + v) <= E p (fun y => exp (f y)).
Proof.
move=> lp e0 ev a0 fa; have na : - a <> 0 by lra.
have v0 : 0 <= v by rewrite -ev; apply: E_ge0 => // y; exact: pow2_ge_0.
have := bennett_algebra lp e0 ev na.
have -> : - v / - a = v / a by field; lra.
have -> : (- a) ^ 2 = a ^ 2 by ring.
move=> /= <-; set x0 := v / a; set U := - a - x0.
have x00 : 0 <= x0 by exact: Rle_mult_inv_pos.
have U2 : 0 < U ^ 2 by apply: pow2_gt_0; rewrite /U; lra.
apply: E_le => // y.
have -> : exp (f y) = exp x0 * exp (f y - x0) by rewrite -exp_plus; congr exp; ring.
apply: Rmult_le_compat_l; first exact/Rlt_le/exp_pos.
have := @exp_quadratic_remainder_monotone U (f y - x0) ltac:(rewrite /U; move: (fa y); lra).
set u := f y - x0 => h; suff: u ^ 2 * ((exp U - 1 - U) / U ^ 2) <= exp u - 1 - u by rewrite /=; lra.
apply: (Rmult_le_reg_r (U ^ 2)) => //; rewrite (_ : u ^ 2 * _ * _ = (exp U - 1 - U) * u ^ 2) //.
by field; move=> z; rewrite z in U2; lra.
Qed.

(** The bounds are attained by the laws that live on the two points -v/b and b. *)
Theorem bennett_attained p f v b : law p -> E p f = 0 -> E p (fun y => f y ^ 2) = v -> b <> 0 ->
  (forall y, f y = - v / b \/ f y = b) ->
  E p (fun y => exp (f y)) = (b ^ 2 * exp (- v / b) + v * exp b) / (b ^ 2 + v).
Proof.
move=> lp e0 ev b0 two; rewrite -(bennett_algebra lp e0 ev b0); set x0 := - v / b; set U := b - x0.
have v0 : 0 <= v by rewrite -ev; apply: E_ge0 => // y; exact: pow2_ge_0.
have U0 : U <> 0.
  rewrite /U /x0 => h; have b2 := pow2_gt_0 b b0; suff: b ^ 2 + v = 0 by lra.
  by rewrite (_ : b ^ 2 + v = (b - - v / b) * b); [rewrite h; ring | field].
apply: E_ext => y; case: (two y) => ->; first by rewrite -/x0; ring.
rewrite -/U {1}(_ : b = x0 + U); last by rewrite /U; ring.
by rewrite exp_plus; field.
Qed.

(** ** Bretagnolle-Huber: TV(d,p)^2 <= 1 - e^{-KL(d‖p)}, through the overlap sum of sqrt(d p) *)

Lemma overlap_ge d p : law d -> law p -> d ≪ p ->
  exp (- KL d p / 2) <= E d (fun y => exp (ln (p y / d y) / 2)).
Proof.
move=> ld lp dp; have e0 := E_exp_gt0 (fun y => ln (p y / d y) / 2) ld.
have := donsker_varadhan (fun y => ln (p y / d y) / 2) ld ld (@dominated_refl _ d).
rewrite KL_refl // E_div Rminus_0_r (_ : E d (fun y => ln (p y / d y)) = - KL d p) => [le|]; last first.
  rewrite /E /KL collect; apply: sum_ext => y.
  case: (law_case y ld) => [->|dy]; first by ring.
  by have py := dominated_pos lp dp dy; rewrite !ln_quotient //; ring.
rewrite -[X in _ <= X](exp_ln _ e0).
by case: le => [/exp_increasing/Rlt_le //|->]; apply: Rle_refl.
Qed.

Theorem bretagnolle_huber d p : law d -> law p -> d ≪ p -> TV d p ^ 2 <= 1 - exp (- KL d p).
Proof.
move=> ld lp dp; set s := fun y => d y * exp (ln (p y / d y) / 2).
set lo := fun y => (d y + p y - Rabs (d y - p y)) / 2.
set hi := fun y => (d y + p y + Rabs (d y - p y)) / 2.
have sums : sum lo = 1 - TV d p /\ sum hi = 1 + TV d p.
  rewrite /TV -{1 2}(proj2 ld); split; rewrite /lo /hi.
    have -> : sum d = (sum d + sum p) / 2 by rewrite (proj2 ld) (proj2 lp); field.
    by rewrite !collect; apply: sum_ext => y; field.
  have -> : sum d = (sum d + sum p) / 2 by rewrite (proj2 ld) (proj2 lp); field.
  by rewrite !collect; apply: sum_ext => y; field.
have abs2 y : Rabs (d y - p y) * Rabs (d y - p y) = (d y - p y) * (d y - p y).
  by rewrite -Rabs_mult Rabs_pos_eq //; exact: Rle_0_sqr.
have prod y : s y * s y = lo y * hi y.
  have -> : lo y * hi y = d y * p y.
    by rewrite /lo /hi; move: (abs2 y); set a := Rabs _ => e; field_simplify; lra.
  rewrite /s; case: (law_case y ld) => [->|dy]; first by ring.
  have py := dominated_pos lp dp dy.
  transitivity (d y * d y * (exp (ln (p y / d y) / 2) * exp (ln (p y / d y) / 2))); first by ring.
  rewrite -exp_plus (_ : _ / 2 + _ / 2 = ln (p y / d y)); last by field.
  by rewrite exp_ln; [field; lra | exact: Rdiv_lt_0_compat].
have lo0 y : 0 <= lo y.
  by rewrite /lo /Rabs; case: Rcase_abs; move: (proj1 ld y) (proj1 lp y); lra.
have hi0 y : 0 <= hi y.
  by rewrite /hi; move: (proj1 ld y) (proj1 lp y) (Rabs_pos (d y - p y)); lra.
have S0 : 0 < sum s by exact: (E_exp_gt0 (fun y => ln (p y / d y) / 2) ld).
(* 2 s <= t lo + hi / t for every t > 0 *)
have amgm t : 0 < t -> 2 * sum s <= t * sum lo + sum hi / t.
  move=> t0; rewrite !collect; apply: sum_le => y.
  have sq : 0 <= (t * lo y - hi y / t) ^ 2 by exact: pow2_ge_0.
  have q0 : 0 <= t * lo y + hi y / t.
    by apply: Rplus_le_le_0_compat; [apply: Rmult_le_pos; lra || exact: lo0 | exact: Rle_mult_inv_pos].
  have e : (t * lo y + hi y / t) ^ 2 = (t * lo y - hi y / t) ^ 2 + 4 * (lo y * hi y) by field; lra.
  rewrite -prod in e; apply: Rnot_lt_le => lt.
  have := Rmult_le_0_lt_compat _ _ _ _ q0 q0 lt lt; move: e sq.
  by set a := _ + _; set b := _ - _; lra.
have cs : sum s * sum s <= (1 - TV d p) * (1 + TV d p).
  case: sums => sl sh; rewrite -sl -sh.
  have A0 : 0 <= sum lo by exact: sum_ge0.
  have B0 : 0 <= sum hi by exact: sum_ge0.
  case: A0 => [A0|A0]; last first.
    have B1 : 0 < (sum hi + 1) / sum s by apply: Rdiv_lt_0_compat; lra.
    have := amgm _ B1; rewrite -A0 Rmult_0_r.
    have i : sum hi / ((sum hi + 1) / sum s) <= sum s.
      rewrite (_ : _ / _ = sum s * (sum hi / (sum hi + 1))); last by field; lra.
      rewrite -[X in _ <= X]Rmult_1_r; apply: Rmult_le_compat_l; first by lra.
      by apply: (Rmult_le_reg_r (sum hi + 1)); [lra | rewrite /Rdiv Rmult_assoc Rinv_l; lra].
    by lra.
  have := amgm (sum s / sum lo) (Rdiv_lt_0_compat _ _ S0 A0).
  rewrite (_ : sum s / sum lo * sum lo = sum s); last by field; lra.
  rewrite (_ : sum hi / (sum s / sum lo) = sum lo * sum hi / sum s); last by field; lra.
  move=> h; have := Rmult_le_compat_r (sum s) _ _ (Rlt_le _ _ S0) h.
  have -> : (sum s + sum lo * sum hi / sum s) * sum s = sum s * sum s + sum lo * sum hi by field; lra.
  by lra.
have ov : exp (- KL d p / 2) <= sum s := overlap_ge ld lp dp.
have : exp (- KL d p) <= sum s * sum s.
  rewrite (_ : - KL d p = - KL d p / 2 + - KL d p / 2); last by field.
  by rewrite exp_plus; have e0 := exp_pos (- KL d p / 2); apply: Rmult_le_compat; lra.
by lra.
Qed.

(** ** Bernstein: f centred under t with values at most b moves by at most sqrt(2 A Var) + b A/3 *)
Theorem bernstein_transport p t f b : law p -> law t -> p ≪ t -> E t f = 0 -> 0 < b ->
  (forall y, f y <= b) ->
  E p f <= sqrt (2 * KL p t * E t (fun y => f y ^ 2)) + b * KL p t / 3.
Proof.
move=> lp lt pt e0 b0 fb; set A := KL p t; set v := E t (fun y => f y ^ 2).
have A0 : 0 <= A by exact: KL_ge0.
have v0 : 0 <= v by apply: E_ge0 => // y; exact: pow2_ge_0.
(* the bound for every multiple l of f, with k = 1/l *)
have bound k : b / 3 < k -> E p f <= A * k + v / (2 * (k - b / 3)).
  move=> kb; have k0 : 0 < k by lra.
  set w := b / k; have w0 : 0 < w by exact: Rdiv_lt_0_compat.
  have wk : w * k = b by rewrite /w; field; lra.
  have w3 : w < 3 by apply: (Rmult_lt_reg_r k) => //; lra.
  set g := (exp w - 1 - w) / w ^ 2.
  have w2 : 0 < w ^ 2 by exact: pow_lt.
  have gw : g * w ^ 2 = exp w - 1 - w by rewrite /g; field; lra.
  have pointwise y : exp (f y / k) <= 1 + f y / k + g / k ^ 2 * f y ^ 2.
    have le : f y / k <= w.
      by apply: Rmult_le_compat_r (fb y); apply/Rlt_le/Rinv_0_lt_compat.
    have := exp_quadratic_remainder_monotone le; rewrite -gw => h.
    have : exp (f y / k) - 1 - f y / k <= g * (f y / k) ^ 2.
      by apply: (Rmult_le_reg_r (w ^ 2)) => //; lra.
    by rewrite (_ : g * (f y / k) ^ 2 = g / k ^ 2 * f y ^ 2); [lra | field; lra].
  have mgf : ln (E t (fun y => exp (f y / k))) <= g / k ^ 2 * v.
    have := ln_le_sub1 (E_exp_gt0 (fun y => f y / k) lt); have := E_le lt pointwise.
    by rewrite !E_plus E_const // E_div E_scal e0 -/v; lra.
  have := donsker_varadhan (fun y => f y / k) lp lt pt; rewrite E_div -/A => dv.
  have gb : g / k ^ 2 * v <= v / (2 * (k - b / 3)) / k.
    have gle : g <= 3 / (6 - 2 * w).
      apply: (Rmult_le_reg_r ((6 - 2 * w) * w ^ 2)); first by apply: Rmult_lt_0_compat; lra.
      have := exp_bernstein (Rlt_le _ _ w0).
      rewrite (_ : 3 / (6 - 2 * w) * ((6 - 2 * w) * w ^ 2) = 3 * w ^ 2); last by field; lra.
      have -> : g * ((6 - 2 * w) * w ^ 2) = (6 - 2 * w) * (g * w ^ 2) by ring.
      by rewrite gw.
    have -> : v / (2 * (k - b / 3)) / k = 3 / (6 - 2 * w) / k ^ 2 * v.
      by rewrite -wk; field; split; [|split]; lra.
    apply: Rmult_le_compat_r => //; apply: Rmult_le_compat_r gle.
    by apply/Rlt_le/Rinv_0_lt_compat/pow_lt.
  have := Rmult_le_compat_r k _ _ (Rlt_le _ _ k0) (Rle_trans _ _ _ dv (Rle_trans _ _ _ mgf gb)).
  rewrite (_ : _ / k * k = v / (2 * (k - b / 3))); last by field; lra.
  by rewrite (_ : (E p f / k - A) * k = E p f - A * k); [lra | field; lra].
have s0 := sqrt_pos (2 * A * v).
case: A0 => [A0|A0]; last first.
  have /KL_eq0 e : KL p t = 0 by rewrite -/A.
  by rewrite (E_law_ext f (e lp lt pt)) e0 -A0; rewrite -A0 in s0; lra.
case: v0 => [v0|v0]; last first.
  have z y : t y * f y ^ 2 = 0.
    move: y; apply: sum_eq0 => // y; apply: Rmult_le_pos; [by apply lt | exact: pow2_ge_0].
  suff -> : E p f = 0 by have := Rmult_lt_0_compat _ _ b0 A0; lra.
  rewrite -(sum_0 Y); apply: sum_ext => y; case: (law_case y lp) => [->|py]; first by ring.
  have ty := dominated_pos lt pt py; have /Rmult_integral[|f2] := z y; first by lra.
  by rewrite (_ : f y = 0); [ring | apply: Rsqr_0_uniq; rewrite /Rsqr; lra].
set u := sqrt (2 * A * v) in s0 *.
have uu : u * u = 2 * A * v by apply: sqrt_sqrt; apply: Rmult_le_pos; lra.
have u0 : 0 < u.
  by case: s0 => // u0; have := Rmult_lt_0_compat _ _ A0 v0; rewrite -u0 in uu; lra.
have := bound (b / 3 + u / (2 * A)); have : 0 < u / (2 * A) by apply: Rdiv_lt_0_compat; lra.
move=> x0 h; have := h ltac:(lra).
rewrite (_ : b / 3 + u / (2 * A) - b / 3 = u / (2 * A)); last by ring.
have -> : v / (2 * (u / (2 * A))) = u / 2.
  rewrite (_ : v / (2 * (u / (2 * A))) = 2 * A * v / (2 * u)); last by field; lra.
  by rewrite -uu; field; lra.
by rewrite (_ : A * (b / 3 + u / (2 * A)) = b * A / 3 + u / 2); [lra | field; lra].
Qed.

End Concentration.
