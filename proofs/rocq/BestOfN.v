(** * Best of n draws (T7) *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Foundations PriceOfReward Overpayment Verifiable.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

Section BestOfN.
Variable N : nat.
Implicit Types (ref : ordinal_finType N -> R) (n : nat).

(** The responses 0, 1, ..., N - 1 are numbered from the worst to the best, ties in a fixed order.
    [below ref i] is the mass of the first i. *)
Definition below ref (i : nat) := \sum_(j : ordinal_finType N) if (j < i)%nat then ref j else 0.
Definition best_of ref n (i : 'I_N) := below ref i.+1 ^ n - below ref i ^ n.

Lemma telescope (h : nat -> R) : \sum_(i : ordinal_finType N) (h i.+1 - h i) = h N - h 0%nat.
Proof.
rewrite /sum; elim: N => [|m IH]; first by rewrite big_ord0; ring.
by rewrite big_ord_recr /= IH; ring.
Qed.

Lemma below_0 ref : below ref 0 = 0.
Proof. exact: sum_0. Qed.

Lemma below_N ref : law ref -> below ref N = 1.
Proof. by move=> lr; rewrite -(proj2 lr); apply: sum_ext => j; rewrite ltn_ord. Qed.

Lemma below_S ref (i : 'I_N) : below ref i.+1 = below ref i + ref i.
Proof.
rewrite -(@sum_single (ordinal_finType N) i (ref i)) /below sum_plus; apply: sum_ext => j.
rewrite ltnS leq_eqVlt; case: (eqVneq j i) => [->|neq]; first by rewrite eqxx ltnn /=; ring.
by rewrite (_ : (val j == val i) = false) /= ?Rplus_0_r //; apply/negbTE.
Qed.

Lemma below_01 ref (i : nat) : law ref -> 0 <= below ref i <= 1.
Proof.
move=> lr; split; first by apply: sum_ge0 => j; case: (j < i)%nat; [apply lr | lra].
rewrite -(proj2 lr); apply: sum_le => j; case: (j < i)%nat; [lra | apply lr].
Qed.

Lemma best_of_law ref n : law ref -> (0 < n)%nat -> law (best_of ref n).
Proof.
move=> lr n0; split=> [i|].
  have [b0 b1] := below_01 i lr; have := below_S ref i; have := proj1 lr i => r0 e.
  have : below ref i ^ n <= below ref i.+1 ^ n by apply: pow_incr; lra.
  by rewrite /best_of; lra.
rewrite (telescope (fun i => below ref i ^ n)) below_N // below_0 pow1 pow_i; [ring | exact/ltP].
Qed.

(** One draw is ref, and one more draw keeps the better of the two. *)
Theorem best_of_draws ref n (i : 'I_N) : law ref ->
  best_of ref 1 i = ref i /\
  best_of ref n.+1 i = best_of ref n i * below ref i.+1 + below ref i ^ n * ref i.
Proof. by move=> lr; rewrite /best_of below_S /=; split; ring. Qed.

Lemma below_best_of ref n (i : nat) : (0 < n)%nat -> (i <= N)%nat -> below (best_of ref n) i = below
  ref i ^ n.
Proof.
move=> n0; elim: i => [|i IH] le; first by rewrite !below_0 pow_i //; exact/ltP.
by rewrite (below_S _ (Ordinal le)) IH ?(ltnW le) // /best_of /=; ring.
Qed.

(** Best of m of best of n is best of m n. *)
Theorem best_of_best_of ref m n (i : 'I_N) : (0 < n)%nat ->
  best_of (best_of ref n) m i = best_of ref (n * m)%coq_nat i.
Proof.
by move=> n0; rewrite /best_of !(below_best_of ref) ?ltn_ord // ?(ltnW (ltn_ord i)) // -!pow_mult.
Qed.

(** The success rate of the k best responses: 1 - (1 - a)^n. *)
Theorem best_of_success ref n (k : nat) : law ref -> (0 < n)%nat -> (k <= N)%nat ->
  let A (i : ordinal_finType N) := (k <= i)%nat in
  success A (best_of ref n) = 1 - (1 - success A ref) ^ n.
Proof.
move=> lr n0 kN A.
have fail q : law q -> 1 - success A q = below q k.
  move=> lq; rewrite failure_sum // /below; apply: sum_ext => j.
  by rewrite /A leqNgt; case: (j < k)%nat.
have lb := best_of_law lr n0.
by have := fail _ lb; rewrite below_best_of // -(fail ref lr); lra.
Qed.

(** An increment of u^n between a and b, against the integrals of -log(n u^{n-1}) and x log x. *)
Lemma increment_ratio k a b : 0 <= a < b -> b <= 1 ->
  let n := INR k.+1 in
  let x := b ^ k.+1 - a ^ k.+1 in
  let G u := - (u * ln n) - INR k * (u * ln u - u) in
  let G2 u := u ^ k.+1 * ln n + INR k * (u ^ k.+1 * ln u - u ^ k.+1 / n) in
  0 < x /\ (b - a) * ln ((b - a) / x) <= G b - G a /\ x * ln (x / (b - a)) <= G2 b - G2 a.
Proof.
move=> [a0 ab] b1 n x G G2; have n1 : 1 <= n by rewrite /n S_INR; move: (pos_INR k); lra.
have kE : INR k = n - 1 by rewrite /n S_INR; ring.
have lnn : ln n <= n - 1 by apply: ln_le_sub1; lra.
have lnn' : 1 - / n <= ln n.
  have := @ln_le_sub1 (/ n) (Rinv_0_lt_compat n ltac:(lra)); rewrite ln_Rinv; lra.
case: a0 => [a0|a0]; last first.
  have bk : 0 < b ^ k by apply: pow_lt; lra.
  have bn : 0 < b ^ k.+1 by apply: pow_lt; lra.
  have xE : x = b ^ k.+1 by rewrite /x -a0 pow_i; [ring | exact/ltP].
  have Ga : G a = 0 by rewrite /G -a0; ring.
  have G2a : G2 a = 0 by rewrite /G2 -a0 pow_i; [field; lra | exact/ltP].
  have lb : ln (b ^ k.+1) = n * ln b by rewrite ln_pow //; lra.
  rewrite xE Ga G2a -a0 !Rminus_0_r; split=> //; rewrite !ln_quotient ?lb //; try lra; split.
    by have := Rmult_le_compat_l b _ _ ltac:(lra) lnn; rewrite /G kE; lra.
  have := Rmult_le_compat_l _ _ _ (Rlt_le _ _ bn) lnn'; rewrite /G2 kE.
  by rewrite (_ : b ^ k.+1 * (1 - / n) = (n - 1) * (b ^ k.+1 / n)); [lra | field; lra].
have x0 : 0 < x.
  rewrite /x -/(pow a k.+1); have := Rmult_le_0_lt_compat; move=> _.
  suff: a ^ k.+1 < b ^ k.+1 by lra.
  elim: k {n x G G2 n1 kE lnn lnn'} => [|k IH]; first by rewrite !pow_1.
  by rewrite -(tech_pow_Rmult a) -(tech_pow_Rmult b); apply: Rmult_le_0_lt_compat; try lra;
    apply: pow_le; lra.
set m := x / (b - a); have m0 : 0 < m by apply: Rdiv_lt_0_compat; lra.
have mE : m * (b - a) = x by rewrite /m; field; lra.
have lnm : ln ((b - a) / x) = - ln m by rewrite /m !ln_quotient; lra.
have d0 u : a <= u <= b -> 0 < n * u ^ k by move=> hu; apply: Rmult_lt_0_compat; [lra | apply: pow_lt; lra].
have ld u : a <= u <= b -> ln (n * u ^ k) = ln n + INR k * ln u.
  by move=> hu; rewrite ln_mult ?ln_pow //; [lra | lra | apply: pow_lt; lra].
split=> //; rewrite lnm -/m; split.
  pose H u := G u + u * ln m + (u ^ k.+1 / m - u).
  have : H a <= H b.
    apply: (@nondecreasing_between H (fun u => n * u ^ k / m - 1 - ln (n * u ^ k / m))) => [u hu|u
      hu|]; last by lra.
      rewrite ln_quotient ?ld //; last exact: d0.
      rewrite /H /G; auto_derive; first by lra.
      change (match k with 0%nat => 1 | _.+1 => INR k + 1 end) with n; field; lra.
    by apply/sub1_ln_ge0/Rdiv_lt_0_compat => //; exact: d0.
  rewrite /H => le; suff: (b - a) = b ^ k.+1 / m - a ^ k.+1 / m by lra.
  by rewrite (_ : b ^ k.+1 / m - a ^ k.+1 / m = x / m); [rewrite -mE; field; lra | rewrite /x; field; lra].
pose H u := G2 u - u ^ k.+1 * ln m - u ^ k.+1 + m * u.
have : H a <= H b.
  apply: (@nondecreasing_between H (fun u => n * u ^ k * ln (n * u ^ k / m) - (n * u ^ k - m))) => [u
    hu|u hu|]; last by lra.
    rewrite ln_quotient ?ld //; last exact: d0.
    rewrite /H /G2; auto_derive; first by lra.
    change (match k with 0%nat => 1 | _.+1 => INR k + 1 end) with n; field; lra.
  have := @gibbs_pointwise (n * u ^ k) m (Rlt_le _ _ (d0 u hu)) (Rlt_le _ _ m0) ltac:(lra); lra.
rewrite /H => le; suff: x = m * b - m * a by rewrite /x in le *; lra.
by rewrite -mE; ring.
Qed.

(** The bounds, for any reward. *)
Theorem best_of_bounds ref n : law ref -> (0 < n)%nat ->
  KL (best_of ref n) ref <= ln (INR n) - (INR n - 1) / INR n /\
  KL ref (best_of ref n) <= INR n - 1 - ln (INR n).
Proof.
case: n => // k lr _; set n := INR k.+1.
have n1 : 1 <= n by rewrite /n S_INR; move: (pos_INR k); lra.
have kE : INR k = n - 1 by rewrite /n S_INR; ring.
pose G u := - (u * ln n) - INR k * (u * ln u - u).
pose G2 u := u ^ k.+1 * ln n + INR k * (u ^ k.+1 * ln u - u ^ k.+1 / n).
have step (i : 'I_N) : best_of ref k.+1 i * ln (best_of ref k.+1 i / ref i) <=
    G2 (below ref i.+1) - G2 (below ref i) /\
  ref i * ln (ref i / best_of ref k.+1 i) <= G (below ref i.+1) - G (below ref i).
  have [a0 a1] := below_01 i lr; have [b0 b1] := below_01 i.+1 lr; have bE := below_S ref i.
  case: (law_case i lr) => [e|ri].
    rewrite /best_of bE e Rplus_0_r !Rminus_eq_0; lra.
  have [_ [h1 h2]] := @increment_ratio k (below ref i) (below ref i.+1) ltac:(lra) b1.
  by rewrite (_ : below ref i.+1 - below ref i = ref i) in h1 h2; [split; [exact: h2 | exact: h1] | lra].
have tot (h : R -> R) : \sum_(i : ordinal_finType N) (h (below ref i.+1) - h (below ref i)) = h 1 - h 0.
  by rewrite (telescope (fun i => h (below ref i))) below_N // below_0.
split.
  apply: (Rle_trans _ _ _ (sum_le (fun i => proj1 (step i)))); rewrite tot.
  by apply: Req_le; rewrite /G2 pow1 ln_1 pow_i; [rewrite kE; field; lra | exact/ltP].
apply: (Rle_trans _ _ _ (sum_le (fun i => proj2 (step i)))); rewrite tot.
by apply: Req_le; rewrite /G ln_1 kE; ring.
Qed.

End BestOfN.
