(** * What a policy paid beyond the price of its reward (S9), what the logs of a run prove (S10), and
    worlds that refute the reported form of the paper's second theorem (R9) *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop.
From NonDecoupling Require Import Sums Calculus Policies Foundations SftThenRl PriceOfReward.
From NonDecoupling Require Import RlThenSft Landscape.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

(** The indicator of d = 0. *)
Definition outside (a : R) : R := if Req_EM_T a 0 then 1 else 0.

Lemma outside_0 : outside 0 = 1.
Proof. by rewrite /outside; case: Req_EM_T. Qed.

Lemma outside_pos a : 0 < a -> outside a = 0.
Proof. by move=> a0; rewrite /outside; case: (Req_EM_T a 0) => // e; lra. Qed.

Lemma outside_ge0 a : 0 <= outside a.
Proof. by rewrite /outside; case: (Req_EM_T a 0) => e /=; lra. Qed.

Lemma sub1_ln_ge0 t : 0 < t -> 0 <= t - 1 - ln t.
Proof. by move/ln_le_sub1; lra. Qed.

Section OnePrompt.
Variable Y : finType.
Implicit Types (p d ref : Y -> R) (r h : Y -> R) (beta s c M l : R).

(** ** S9 *)

(** The identity behind S9 and T2, for any h that is positive where d is. *)
Theorem overpayment_core d p h : law d -> law p -> d ≪ p -> (forall y, 0 < d y -> 0 < h y) ->
  let z y := p y * h y / d y in
  KL d p - E d (fun y => ln (h y)) =
  E d (fun y => z y - 1 - ln (z y)) + (1 - E p h) + E p (fun y => outside (d y) * h y).
Proof.
move=> ld lp dp h0 z.
suff: KL d p - E d (fun y => ln (h y)) + E p h =
      E d (fun y => z y - 1 - ln (z y)) + sum d + E p (fun y => outside (d y) * h y).
  by rewrite (proj2 ld); lra.
rewrite /KL /E !collect; apply: sum_ext => y.
case: (law_case y ld) => [e|dy].
  by rewrite e outside_0 /Rdiv !Rmult_0_l; ring.
have py := dominated_pos lp dp dy; have hy := h0 y dy.
have ph := Rmult_lt_0_compat _ _ py hy.
rewrite outside_pos // /z (ln_quotient ph dy) ln_mult // ln_quotient //; field; lra.
Qed.

Theorem overpayment d p r c M l : law d -> law p -> d ≪ p -> c < M ->
  (forall y, 0 < d y -> 0 < 1 - l * (r y - c) / (M - c)) ->
  let h y := 1 - l * (r y - c) / (M - c) in
  let z y := p y * h y / d y in
  KL d p - E d (fun y => ln (h y)) =
  E d (fun y => z y - 1 - ln (z y)) + l * (E p r - c) / (M - c) +
  E p (fun y => outside (d y) * h y).
Proof.
move=> ld lp dp cM h0 h z.
have e : E p h = 1 - l * (E p r - c) / (M - c).
  by rewrite /h E_minus E_const // E_div E_scal E_minus E_const.
by have := @overpayment_core d p h ld lp dp h0; rewrite /= e /h /z /h; lra.
Qed.

Lemma overpayment_first_ge0 d p h : law d -> law p -> d ≪ p -> (forall y, 0 < d y -> 0 < h y) ->
  0 <= E d (fun y => p y * h y / d y - 1 - ln (p y * h y / d y)).
Proof.
move=> ld lp dp h0; apply: sum_ge0 => y; case: (law_case y ld) => [->|dy]; first by lra.
apply: Rmult_le_pos; first by lra.
by apply/sub1_ln_ge0/Rdiv_lt_0_compat => //; apply: Rmult_lt_0_compat (h0 y dy);
   apply: dominated_pos dp dy.
Qed.

Lemma overpayment_last_ge0 d p h : law p -> (forall y, 0 <= h y) ->
  0 <= E p (fun y => outside (d y) * h y).
Proof.
move=> lp h0; apply: E_ge0 => // y; exact: Rmult_le_pos (outside_ge0 _) _.
Qed.

(** Whenever 0 <= l <= 1 and c <= J(p) no term is negative. *)
Theorem overpayment_terms_ge0 d p r c M l : law d -> law p -> d ≪ p -> c < M -> (forall y, r y <= M) ->
  0 <= l <= 1 -> c <= E p r -> (forall y, 0 < d y -> 0 < 1 - l * (r y - c) / (M - c)) ->
  let h y := 1 - l * (r y - c) / (M - c) in
  let z y := p y * h y / d y in
  0 <= E d (fun y => z y - 1 - ln (z y)) /\ 0 <= l * (E p r - c) / (M - c) /\
  0 <= E p (fun y => outside (d y) * h y).
Proof.
move=> ld lp dp cM rM l01 cp h0 h z; split; first exact: overpayment_first_ge0.
split; first by apply: Rle_mult_inv_pos; [apply: Rmult_le_pos |]; lra.
apply: overpayment_last_ge0 => // y; rewrite /h (_ : l * (r y - c) / (M - c) = l * ((r y - c) / (M - c))).
  by have := Rmult_le_compat_l l _ _ (proj1 l01) (w_le1 rM cM y); lra.
by rewrite /Rdiv; ring.
Qed.

(** The first and the last term vanish together iff p h = d. *)
Lemma overpayment_zero_iff d p h : law d -> law p -> d ≪ p -> (forall y, 0 <= h y) ->
  (forall y, 0 < d y -> 0 < h y) ->
  E d (fun y => p y * h y / d y - 1 - ln (p y * h y / d y)) + E p (fun y => outside (d y) * h y) = 0
  <-> forall y, p y * h y = d y.
Proof.
move=> ld lp dp hh h0; have a0 := overpayment_first_ge0 ld lp dp h0.
have b0 := overpayment_last_ge0 d lp hh.
have first y : 0 < d y -> 0 <= d y * (p y * h y / d y - 1 - ln (p y * h y / d y)).
  move=> dy; apply: Rmult_le_pos; first by lra.
  by apply/sub1_ln_ge0/Rdiv_lt_0_compat => //; apply: Rmult_lt_0_compat (h0 y dy);
     apply: dominated_pos dp dy.
have last y : 0 <= p y * (outside (d y) * h y).
  apply: Rmult_le_pos; first by apply lp.
  by apply: Rmult_le_pos (outside_ge0 _) _.
split=> [e y|e].
  case: (law_case y ld) => [dy|dy].
    have := sum_eq0 last ltac:(rewrite /E in e a0 b0; lra) y.
    by rewrite dy outside_0 Rmult_1_l.
  have ph : 0 < p y * h y by apply: Rmult_lt_0_compat (h0 y dy); apply: dominated_pos dp dy.
  have z0 := Rdiv_lt_0_compat _ _ ph dy.
  have : d y * (p y * h y / d y - 1 - ln (p y * h y / d y)) = 0.
    apply: (@sum_eq0 _ (fun y => d y * (p y * h y / d y - 1 - ln (p y * h y / d y)))).
      by move=> w; case: (law_case w ld) => [->|/first //]; lra.
    by rewrite /E in e a0 b0; lra.
  move=> /Rmult_integral [|t]; first by lra.
  have : p y * h y / d y = 1 by apply: ln_eq_sub1; lra.
  by move=> e1; rewrite -(Rmult_1_l (d y)) -e1; field; lra.
rewrite /E -(sum_0 Y) !collect; apply: sum_ext => y; rewrite e.
case: (law_case y ld) => [e0|dy].
  rewrite e0 outside_0 Rmult_0_l Rmult_1_l e e0; ring.
by rewrite outside_pos // (_ : d y / d y = 1); [rewrite ln_1; ring | field; lra].
Qed.

(** At the l of S5 and c = J(p): the three terms are >= 0, the middle one is 0, and p overpaid
    nothing iff p (1 - l w) = d everywhere, iff no policy with that reward has a smaller KL. *)
Theorem overpayment_frontier d r c M y0 : law d -> (forall y, r y <= M) -> r y0 = M -> E d r < c ->
  c < M -> exists l, 0 <= l <= 1 /\ forall p, law p -> d ≪ p -> E p r = c ->
  let h y := 1 - l * (r y - c) / (M - c) in
  let z y := p y * h y / d y in
  let first := E d (fun y => z y - 1 - ln (z y)) in
  let last := E p (fun y => outside (d y) * h y) in
  KL d p - E d (fun y => ln (h y)) = first + last /\ 0 <= first /\ 0 <= last /\
  (first + last = 0 <-> forall y, p y * h y = d y) /\
  (first + last = 0 <-> forall p', law p' -> d ≪ p' -> c <= E p' r -> KL d p <= KL d p').
Proof.
move=> ld rM r0 dc cM; have [l [q [l01 [l1 [lq [dq [qc [_ e]]]]]]]] := strong_duality ld rM cM r0 dc.
exists l; split=> // p lp dp pc h z first last.
have hE y : h y = 1 - l * ((r y - c) / (M - c)) by rewrite /h /Rdiv; ring.
have h0 y : 0 < d y -> 0 < h y.
  move=> dy; rewrite hE; apply: (denominator_gt0 rM cM l01).
  by case: (Rlt_le_dec l 1) => t; [left | right => /(l1 ltac:(lra)); lra].
have hh y : 0 <= h y.
  rewrite hE; have := Rmult_le_compat_l l _ _ (proj1 l01) (w_le1 rM cM y); lra.
have id : KL d p - E d (fun y => ln (h y)) = first + last.
  have := @overpayment d p r c M l ld lp dp cM h0; rewrite /= pc => ->.
  by rewrite /first /last /z /h; field; lra.
split=> //; split; first exact: overpayment_first_ge0.
split; first exact: overpayment_last_ge0.
split; first exact: overpayment_zero_iff.
have dual p' : law p' -> d ≪ p' -> c <= E p' r -> E d (fun y => ln (h y)) <= KL d p'.
  by move=> lp' dp' cp'; exact: (weak_duality ld rM cM lp' dp' cp' l01 l1).
have eq : KL d q = E d (fun y => ln (h y)) by exact: e.
rewrite -id; split=> [t p' lp' dp' cp'|least]; first by have := dual p' lp' dp' cp'; lra.
by have := least q lq dq ltac:(lra); have := dual p lp dp ltac:(lra); lra.
Qed.

(** ** S10 *)

Theorem run_proves d p ref r beta : law d -> law p -> law ref -> d ≪ ref -> p ≪ ref ->
  (E p r - E d r) / beta - KL p ref = CE d (tilt ref r beta) - CE d ref - KL p (tilt ref r beta).
Proof.
move=> ld lp lr dr pr; rewrite loss_change_tilt // /tilt KL_gibbs // E_div -/(Z ref r beta).
by rewrite /Rdiv; ring.
Qed.

Theorem run_lower_bound d p ref r beta : law d -> law p -> law ref -> d ≪ ref -> p ≪ ref ->
  (E p r - E d r) / beta - KL p ref <= CE d (tilt ref r beta) - CE d ref /\
  ((E p r - E d r) / beta - KL p ref = CE d (tilt ref r beta) - CE d ref <->
   forall y, p y = tilt ref r beta y).
Proof.
move=> ld lp lr dr pr; have := run_proves r beta ld lp lr dr pr.
have k0 := KL_p_tilt_ge0 r beta lp lr pr.
have lt : law (tilt ref r beta) by exact: gibbs_law.
by move=> e; split; [lra | rewrite -KL_eq0 //; [split; lra | exact: dominated_gibbs]].
Qed.

(** In s = 1/beta: every checkpoint is an affine minorant, and the loss is convex. *)
Theorem run_minorant d p ref r s : law d -> law p -> law ref -> d ≪ ref -> p ≪ ref ->
  s * (E p r - E d r) - KL p ref <= CE d (tilt_at ref r s) - CE d ref /\
  ((forall y, p y = tilt_at ref r s y) ->
   s * (E p r - E d r) - KL p ref = CE d (tilt_at ref r s) - CE d ref).
Proof.
move=> ld lp lr dr pr; have lt : law (tilt_at ref r s) by exact: gibbs_law.
have pt : p ≪ tilt_at ref r s by exact: dominated_gibbs.
have e : s * (E p r - E d r) - KL p ref
  = CE d (tilt_at ref r s) - CE d ref - KL p (tilt_at ref r s).
  by rewrite /tilt_at loss_change_gibbs // KL_gibbs // !E_scal; ring.
by split=> [|/(KL_eq0 lp lt pt)]; [move: (KL_ge0 lp lt pt); lra | lra].
Qed.

Theorem loss_change_convex d ref r s u t : law d -> law ref -> d ≪ ref -> 0 <= t <= 1 ->
  let f s := CE d (tilt_at ref r s) - CE d ref in
  f ((1 - t) * s + t * u) <= (1 - t) * f s + t * f u.
Proof.
move=> ld lr dr t01 f; set x := (1 - t) * s + t * u; set p := tilt_at ref r x.
have lp : law p by exact: gibbs_law.
have pr : p ≪ ref by exact: gibbs_dominated.
have line v := run_minorant r v ld lp lr dr pr.
have -> : f x = x * (E p r - E d r) - KL p ref by symmetry; apply (line x).
have ls := Rmult_le_compat_l (1 - t) _ _ ltac:(lra) (proj1 (line s)).
have lu := Rmult_le_compat_l t _ _ ltac:(lra) (proj1 (line u)).
by move: ls lu; rewrite -/(f s) -/(f u) /x; lra.
Qed.

Theorem run_raises_loss d p ref r beta : law d -> law p -> law ref -> d ≪ ref -> p ≪ ref -> 0 < beta ->
  beta * KL p ref < E p r - E d r -> CE d ref < CE d (tilt ref r beta).
Proof.
move=> ld lp lr dr pr b0 gain; have [le _] := run_lower_bound r beta ld lp lr dr pr.
suff: KL p ref < (E p r - E d r) / beta by lra.
apply: (Rmult_lt_reg_l beta) => //.
by rewrite (_ : beta * ((E p r - E d r) / beta) = E p r - E d r); [|field; lra].
Qed.

End OnePrompt.

(** S9 for averages: one multiplier nu for all prompts, one mu for each. *)
Section Averaged.
Variables (X : finType) (Y : X -> finType) (q : X -> R).
Implicit Types (p d r : forall x, Y x -> R).

Theorem avg_overpayment d p r (mu : X -> R) nu c : law q -> (forall x, law (d x)) ->
  (forall x, law (p x)) -> (forall x, d x ≪ p x) ->
  (forall x y, 0 < d x y -> 0 < mu x - nu * r x y) ->
  let z x y := p x y * (mu x - nu * r x y) / d x y in
  E q (fun x => KL (d x) (p x)) -
    (nu * c + 1 + E q (fun x => E (d x) (fun y => ln (mu x - nu * r x y)) - mu x)) =
  E q (fun x => E (d x) (fun y => z x y - 1 - ln (z x y))) +
  nu * (E q (fun x => E (p x) (r x)) - c) +
  E q (fun x => E (p x) (fun y => outside (d x y) * (mu x - nu * r x y))).
Proof.
move=> lq ld lp dp h0 z.
have key x : KL (d x) (p x) = E (d x) (fun y => ln (mu x - nu * r x y)) +
    E (d x) (fun y => z x y - 1 - ln (z x y)) + (1 - mu x + nu * E (p x) (r x)) +
    E (p x) (fun y => outside (d x y) * (mu x - nu * r x y)).
  have := @overpayment_core _ (d x) (p x) (fun y => mu x - nu * r x y) (ld x) (lp x) (dp x) (h0 x).
  have e : E (p x) (fun y => mu x - nu * r x y) = mu x - nu * E (p x) (r x).
    by rewrite E_minus E_const // E_scal.
  by rewrite /= e /z; lra.
set a := fun x => E (d x) (fun y => ln (mu x - nu * r x y)) in key *.
set b := fun x => E (d x) (fun y => z x y - 1 - ln (z x y)) in key *.
set J := fun x => E (p x) (r x) in key *; set last := fun x => E (p x) _ in key *.
have -> : E q (fun x => KL (d x) (p x)) = E q a + E q b + (1 - E q mu + nu * E q J) + E q last.
  rewrite -[X in X - E q mu](E_const 1 lq) -E_scal -E_minus -!E_plus; exact: E_ext.
by rewrite (E_minus q a mu); ring.
Qed.

(** S10 for averages. *)
Theorem avg_run_proves d p r (ref : forall x, Y x -> R) beta : (forall x, law (d x)) ->
  (forall x, law (p x)) -> (forall x, law (ref x)) -> (forall x, d x ≪ ref x) -> (forall x, p x ≪ ref x) ->
  (E q (fun x => E (p x) (r x)) - E q (fun x => E (d x) (r x))) / beta - E q (fun x => KL (p x) (ref x)) =
  E q (fun x => CE (d x) (tilt (ref x) (r x) beta)) - E q (fun x => CE (d x) (ref x)) -
  E q (fun x => KL (p x) (tilt (ref x) (r x) beta)).
Proof.
move=> ld lp lr dr pr; rewrite -!E_minus -E_div -E_minus; apply: E_ext => x; exact: run_proves.
Qed.

End Averaged.

(** ** R9: "0 < a <= KL(p_SFT‖p_RL) <= A implies J(p_SFT) <= J(p_RL) - C with C > 0" is false *)

(** A constant reward: nothing is lost. *)
Theorem refuted_constant : let p_rl := coin (1 / 2) in let p_sft := coin (3 / 4) in
  @law bool_finType p_rl /\ @law bool_finType p_sft /\
  0 < @KL bool_finType p_sft p_rl /\
  (forall b, @tilt bool_finType p_rl (fun _ => 0) 1 b = p_rl b) /\
  @E bool_finType p_sft (fun _ => 0) = @E bool_finType p_rl (fun _ => 0).
Proof.
move=> p_rl p_sft; have l1 : @law bool_finType p_rl by apply: coin_law; lra.
have l2 : @law bool_finType p_sft by apply: coin_law; lra.
do 2 split=> //; split; last split; last by rewrite !E_const.
  apply: (KL_gt0 (y := true)) => //; last by rewrite /p_sft /p_rl /=; lra.
  by apply: full_dominates; apply: coin_full; lra.
by apply/gibbs_id_iff.
Qed.

(** A reward that is not constant, RL to the exact optimum, SFT to the data: the reward rises by 1/4. *)
Theorem refuted_rise : let ref := coin (3 / 4) in let d := coin (1 / 4) in
  let r b := if b then 0 else 1 in let beta := / ln 3 in
  let p_rl := @tilt bool_finType ref r beta in
  @law bool_finType ref /\ @law bool_finType d /\ 0 < beta /\
  (forall b, p_rl b = coin (1 / 2) b) /\ 0 < @KL bool_finType d p_rl /\
  @E bool_finType d r = @E bool_finType p_rl r + 1 / 4.
Proof.
move=> ref d r beta p_rl; have l1 : @law bool_finType ref by apply: coin_law; lra.
have l2 : @law bool_finType d by apply: coin_law; lra.
have l3 : 0 < ln 3 by rewrite -ln_1; apply: ln_increasing; lra.
have e0 : exp (0 / beta) = 1 by rewrite /Rdiv Rmult_0_l exp_0.
have e1 : exp (1 / beta) = 3.
  by rewrite (_ : 1 / beta = ln 3) ?exp_ln; [|lra|rewrite /beta; field; lra].
have z : @E bool_finType ref (fun y => exp (r y / beta)) = 3 / 2.
  by rewrite E_coin /r e0 e1; field.
have pE b : p_rl b = coin (1 / 2) b.
  by rewrite /p_rl /tilt /gibbs z /ref /r; case: b; rewrite /= ?e0 ?e1; field.
do 2 split=> //; split; first exact: Rinv_0_lt_compat.
split=> //; split.
  rewrite (KL_ext (q' := coin (1 / 2)) (fun b => erefl (d b)) pE).
  apply: (KL_gt0 (y := true)) => //; [by apply: coin_law; lra | | by rewrite /d /=; lra].
  by apply: full_dominates; apply: coin_full; lra.
by rewrite (E_law_ext _ pE) /d !E_coin /r; lra.
Qed.

(** Three responses, r = (0, 0, 1): SFT that moves mass within a level set keeps the reward. *)
Theorem refuted_level_set : let p_rl := three (1 / 4) (1 / 4) (1 / 2) : ordinal_finType 3 -> R in
  let p_sft := three (1 / 8) (3 / 8) (1 / 2) : ordinal_finType 3 -> R in
  let r := three 0 0 1 : ordinal_finType 3 -> R in
  law p_rl /\ law p_sft /\ 0 < KL p_sft p_rl /\ E p_sft r = E p_rl r.
Proof.
move=> p_rl p_sft r.
have l1 : law p_rl.
  split=> [y|]; last by rewrite sum_three /p_rl /three /=; lra.
  by rewrite /p_rl /three; case: (val y) => [|[|n]]; lra.
have l2 : law p_sft.
  split=> [y|]; last by rewrite sum_three /p_sft /three /=; lra.
  by rewrite /p_sft /three; case: (val y) => [|[|n]]; lra.
do 2 split=> //; split; last by rewrite /E !sum_three /p_sft /p_rl /r /three /=; lra.
apply: (KL_gt0 (y := ord0)) => //; last by rewrite /p_sft /p_rl /three /=; lra.
by apply: full_dominates => y; rewrite /p_rl /three; case: (val y) => [|[|n]]; lra.
Qed.
