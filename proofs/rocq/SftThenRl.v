(** * SFT, then RL: what RL does to the SFT loss (S1-S7)

    d is the data law, ref the policy RL starts from, s = 1/beta. DeltaL(p) = CE(d,p) - CE(d,ref). *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype seq fintype bigop.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Foundations Concentration.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

Section SftThenRl.
Variable Y : finType.
Implicit Types (p d ref : Y -> R) (r : Y -> R) (beta s t m M c l eps : R).

(** ** S1: exact change of the SFT loss *)

Lemma loss_change_is_KL_difference d p ref : law d -> law p -> law ref -> d ≪ p -> d ≪ ref ->
  CE d p - CE d ref = KL d p - KL d ref.
Proof. by move=> ld lp lr dp dr; rewrite !CE_decomposition //; ring. Qed.

Lemma loss_change_gibbs d ref f : law d -> law ref -> d ≪ ref ->
  CE d (gibbs ref f) - CE d ref = ln (E ref (fun y => exp (f y))) - E d f.
Proof.
move=> ld lr dr; rewrite loss_change_is_KL_difference ?KL_gibbs //; first by ring.
  exact: gibbs_law.
exact: dominated_gibbs.
Qed.

Theorem loss_change_tilt d ref r beta : law d -> law ref -> d ≪ ref ->
  CE d (tilt ref r beta) - CE d ref = ln (Z ref r beta) - E d r / beta.
Proof. by move=> ld lr dr; rewrite loss_change_gibbs // E_div. Qed.

Theorem loss_change_any d p ref : law d -> law p -> law ref -> d ≪ ref -> ref ≪ p ->
  CE d p - CE d ref = KL ref p - (E d (fun y => ln (p y / ref y)) - E ref (fun y => ln (p y / ref y))).
Proof.
move=> ld lp lr dr rp; rewrite /CE /KL /E !collect; apply: sum_ext => y.
case: (law_case y lr) => [ry|ry]; first by rewrite (dr y ry) ry; ring.
by rewrite !ln_quotient //; [ring | exact: dominated_pos rp ry..].
Qed.

(** ** S2: coupling at SFT optimality *)

Theorem coupling_gap d r beta : law d ->
  CE d (tilt d r beta) - CE d d = ln (Z d r beta) - E d r / beta /\
  CE d (tilt d r beta) - CE d d = KL d (tilt d r beta).
Proof.
move=> ld; split; first exact: loss_change_tilt.
rewrite loss_change_is_KL_difference ?KL_refl //; first by ring.
  exact: gibbs_law.
exact: dominated_gibbs.
Qed.

Lemma tilt_id_iff d r beta : law d -> 0 < beta -> (forall y, tilt d r beta y = d y) <->
  (forall y z, 0 < d y -> 0 < d z -> r y = r z).
Proof.
move=> ld b0; rewrite /tilt gibbs_id_iff //; split=> e y z dy dz; last by rewrite (e y z).
by apply: (Rmult_eq_reg_r (/ beta)); [exact: e | apply/Rgt_not_eq/Rinv_0_lt_compat].
Qed.

Theorem coupling d r beta : law d -> 0 < beta ->
  0 <= CE d (tilt d r beta) - CE d d /\
  (CE d (tilt d r beta) - CE d d = 0 <-> forall y z, 0 < d y -> 0 < d z -> r y = r z).
Proof.
move=> ld b0; rewrite (proj2 (coupling_gap r beta ld)).
have lt : law (tilt d r beta) by exact: gibbs_law.
have dt : d ≪ tilt d r beta by exact: dominated_gibbs.
split; first exact: KL_ge0.
rewrite KL_eq0 // -(tilt_id_iff r ld b0); split=> e y; by rewrite e.
Qed.

(** ** S3: two-sided size *)

Theorem coupling_hoeffding d r beta m M : law d -> 0 < beta -> (forall y, m <= r y <= M) ->
  CE d (tilt d r beta) - CE d d <= (M - m) ^ 2 / (8 * beta ^ 2).
Proof.
move=> ld b0 mM; rewrite (proj1 (coupling_gap r beta ld)) /Z.
have := hoeffding (/ beta) ld mM.
rewrite (@E_ext _ _ (fun y => exp (/ beta * r y)) (fun y => exp (r y / beta))); last first.
  by move=> y; congr exp; rewrite /Rdiv; ring.
rewrite (_ : (/ beta) ^ 2 * _ / 8 = (M - m) ^ 2 / (8 * beta ^ 2)); last by field; lra.
by rewrite (_ : / beta * E d r = E d r / beta) // /Rdiv; ring.
Qed.

(** DeltaL is the log-moment-generating function of the centred reward X = s (r - E_d r). *)
Lemma coupling_centred d r beta : law d -> 0 < beta ->
  CE d (tilt d r beta) - CE d d = ln (E d (fun y => exp (/ beta * (r y - E d r)))) /\
  E d (fun y => / beta * (r y - E d r)) = 0 /\
  E d (fun y => (/ beta * (r y - E d r)) ^ 2) = (/ beta) ^ 2 * Var d r.
Proof.
move=> ld b0; rewrite (proj1 (coupling_gap r beta ld)); split; [|split].
- have -> : E d (fun y => exp (/ beta * (r y - E d r))) = exp (- (E d r / beta)) * Z d r beta.
    by rewrite -E_scal; apply: E_ext => y; rewrite -exp_plus; congr exp; field; lra.
  rewrite ln_mult ?ln_exp; [ring | exact: exp_pos | exact: E_exp_gt0].
- by rewrite E_scal E_minus E_const //; ring.
- by rewrite /Var -E_scal; apply: E_ext => y; ring.
Qed.

Theorem coupling_two_point d r beta m M : law d -> 0 < beta -> (forall y, m <= r y <= M) ->
  m < E d r < M ->
  let v := (/ beta) ^ 2 * Var d r in
  let a := / beta * (E d r - m) in
  let b := / beta * (M - E d r) in
  ln ((a ^ 2 * exp (v / a) + v * exp (- a)) / (a ^ 2 + v)) <= CE d (tilt d r beta) - CE d d
  <= ln ((b ^ 2 * exp (- v / b) + v * exp b) / (b ^ 2 + v)).
Proof.
move=> ld b0 mM [lo hi] v a b; have s0 := Rinv_0_lt_compat _ b0.
have a0 : 0 < a by apply: Rmult_lt_0_compat; lra.
have bb0 : 0 < b by apply: Rmult_lt_0_compat; lra.
have v0 : 0 <= v by apply: Rmult_le_pos (Var_ge0 _ ld); exact: pow2_ge_0.
have [-> [e0 ev]] := coupling_centred r ld b0.
have mono x y : 0 < x -> x <= y -> ln x <= ln y by move=> x0 [/(ln_increasing _ _ x0)|->]; lra.
split; apply: mono.
- apply: Rdiv_lt_0_compat; last by move: (pow_lt a 2 a0); lra.
  apply: Rplus_lt_le_0_compat; first by apply: Rmult_lt_0_compat (exp_pos _); exact: pow_lt.
  by apply: Rmult_le_pos => //; apply/Rlt_le/exp_pos.
- apply: (bennett_lower ld e0 ev a0) => y; rewrite /a Ropp_mult_distr_r.
  by apply: Rmult_le_compat_l; [|move: (mM y)]; lra.
- exact: E_exp_gt0.
- apply: (bennett_upper ld e0 ev bb0) => y; rewrite /b.
  by apply: Rmult_le_compat_l; [|move: (mM y)]; lra.
Qed.

(** When r takes its two bounds only, both are equal to DeltaL. *)
Theorem coupling_two_point_attained d r beta m M : law d -> 0 < beta ->
  (forall y, r y = m \/ r y = M) -> m < E d r < M ->
  let v := (/ beta) ^ 2 * Var d r in
  let a := / beta * (E d r - m) in
  let b := / beta * (M - E d r) in
  CE d (tilt d r beta) - CE d d = ln ((a ^ 2 * exp (v / a) + v * exp (- a)) / (a ^ 2 + v)) /\
  CE d (tilt d r beta) - CE d d = ln ((b ^ 2 * exp (- v / b) + v * exp b) / (b ^ 2 + v)).
Proof.
move=> ld b0 two [lo hi] v a b; have s0 := Rinv_0_lt_compat _ b0.
have a0 : 0 < a by apply: Rmult_lt_0_compat; lra.
have bb0 : 0 < b by apply: Rmult_lt_0_compat; lra.
have [-> [e0 ev]] := coupling_centred r ld b0; rewrite -/v in ev.
set f := fun y => / beta * (r y - E d r) in e0 ev *.
have vE : v = a * b.
  have : E d (fun y => (f y + a) * (f y - b)) = 0.
    rewrite -(sum_0 Y); apply: sum_ext => y; rewrite /f /a /b.
    by case: (two y) => ->; ring.
  rewrite (@E_ext _ _ _ (fun y => f y ^ 2 + (a - b) * f y - a * b)); last by move=> y; ring.
  by rewrite E_minus E_plus E_scal E_const // e0 ev; lra.
have values y : f y = - a \/ f y = b.
  by rewrite /f /a /b; case: (two y) => ->; [left | right]; ring.
clearbody v a b; split; congr ln.
- have na : - a <> 0 by lra.
  have e1 : - v / - a = v / a by field; lra.
  have e2 : (- a) ^ 2 = a ^ 2 by ring.
  rewrite -e1 -e2; apply: (bennett_attained ld e0 ev na) => y.
  by case: (values y) => ->; [right | left; rewrite vE; field; lra].
- apply: (bennett_attained ld e0 ev) => [|y]; first by lra.
  by case: (values y) => ->; [left; rewrite vE; field; lra | right].
Qed.

(** ** S4: longer RL costs more *)

Lemma KL_tilt_at d r s t : law d -> KL (tilt_at d r s) (tilt_at d r t) =
  ln (E d (fun y => exp (t * r y))) - ln (E d (fun y => exp (s * r y))) - (t - s) * E (tilt_at d r s) r.
Proof. by move=> ld; rewrite /tilt_at KL_gibbs_gibbs // !E_scal; ring. Qed.

Lemma loss_change_tilt_at d r s : law d ->
  CE d (tilt_at d r s) - CE d d = ln (E d (fun y => exp (s * r y))) - s * E d r.
Proof. by move=> ld; rewrite /tilt_at loss_change_gibbs // E_scal. Qed.

Lemma KL_tilt_at_ge0 d r s t : law d -> 0 <= KL (tilt_at d r s) (tilt_at d r t) /\
  (s <> t -> (exists y z, 0 < d y /\ 0 < d z /\ r y <> r z) ->
   0 < KL (tilt_at d r s) (tilt_at d r t)).
Proof.
move=> ld; have ls : law (tilt_at d r s) by exact: gibbs_law.
have lt : law (tilt_at d r t) by exact: gibbs_law.
have st : tilt_at d r s ≪ tilt_at d r t.
  by apply: dominated_gibbs => //; exact: gibbs_dominated.
have k0 := KL_ge0 ls lt st; split=> // neq [y [z [dy [dz rr]]]].
case: k0 => // e; case: rr; symmetry in e; move/KL_eq0: e => /(_ ls lt st) /gibbs_eq_iff.
move=> /(_ ld y z dy dz) e; apply: (Rmult_eq_reg_l (s - t)); lra.
Qed.

(** The raw reward of the tilt is nondecreasing in s, strictly iff r is not constant on supp d. *)
Theorem reward_monotone d r s t : law d -> s <= t -> E (tilt_at d r s) r <= E (tilt_at d r t) r.
Proof.
move=> ld [lt|->]; last by lra.
have [st _] := KL_tilt_at_ge0 r s t ld; have [ts _] := KL_tilt_at_ge0 r t s ld.
rewrite !KL_tilt_at // in st ts.
by apply: (Rmult_le_reg_l (t - s)); lra.
Qed.

Theorem reward_strictly_monotone d r s t : law d -> s < t ->
  (exists y z, 0 < d y /\ 0 < d z /\ r y <> r z) -> E (tilt_at d r s) r < E (tilt_at d r t) r.
Proof.
move=> ld lt nc.
have [_ /(_ ltac:(lra) nc) st] := KL_tilt_at_ge0 r s t ld.
have [_ /(_ ltac:(lra) nc) ts] := KL_tilt_at_ge0 r t s ld.
rewrite !KL_tilt_at // in st ts.
by apply: (Rmult_lt_reg_l (t - s)); lra.
Qed.

Lemma E_tilt_at_0 d r f : law d -> E (tilt_at d r 0) f = E d f.
Proof.
move=> ld; apply: E_law_ext => y; rewrite /tilt_at -[RHS]gibbs_zero //.
by move: y; apply/gibbs_eq_iff => // y z _ _; ring.
Qed.

Theorem loss_monotone d r s t : law d -> 0 <= s <= t ->
  CE d (tilt_at d r s) - CE d d <= CE d (tilt_at d r t) - CE d d.
Proof.
move=> ld [s0 st]; rewrite !loss_change_tilt_at //.
have [k _] := KL_tilt_at_ge0 r s t ld; rewrite KL_tilt_at // in k.
have := reward_monotone r ld s0; rewrite E_tilt_at_0 // => j.
by have := Rmult_le_compat_l (t - s) _ _ ltac:(lra) j; lra.
Qed.

Theorem loss_strictly_monotone d r s t : law d -> 0 <= s < t ->
  (exists y z, 0 < d y /\ 0 < d z /\ r y <> r z) ->
  CE d (tilt_at d r s) - CE d d < CE d (tilt_at d r t) - CE d d.
Proof.
move=> ld [s0 st] nc; rewrite !loss_change_tilt_at //.
have [_ /(_ ltac:(lra) nc) k] := KL_tilt_at_ge0 r s t ld; rewrite KL_tilt_at // in k.
have := reward_monotone r ld s0; rewrite E_tilt_at_0 // => j.
by have := Rmult_le_compat_l (t - s) _ _ ltac:(lra) j; lra.
Qed.

Theorem loss_strictly_monotone_iff d r s t : law d -> 0 <= s < t ->
  CE d (tilt_at d r s) - CE d d < CE d (tilt_at d r t) - CE d d <->
  exists y z, 0 < d y /\ 0 < d z /\ r y <> r z.
Proof.
move=> ld st; split; last exact: loss_strictly_monotone.
move=> lt; apply: Classical_Prop.NNPP => none.
have const y z : 0 < d y -> 0 < d z -> r y = r z.
  by move=> dy dz; apply: Classical_Prop.NNPP => neq; case: none; exists y, z.
suff: CE d (tilt_at d r s) = CE d (tilt_at d r t) by lra.
apply: CE_ext; rewrite /tilt_at; apply/gibbs_eq_iff => // y z dy dz.
by rewrite (const y z).
Qed.

(** The derivatives. First the moments of e^{s r}, then DeltaL' = E_tilt r - E_d r, then J' = Var. *)
Lemma is_derive_moment d r (g : Y -> R) s :
  is_derive (fun s => E d (fun y => g y * exp (s * r y))) s (E d (fun y => g y * r y * exp (s * r y))).
Proof.
apply: (@is_derive_sum _ (fun y s => d y * (g y * exp (s * r y)))
                         (fun y s => d y * (g y * r y * exp (s * r y)))) => y.
by auto_derive => //; ring.
Qed.

Lemma E_tilt_at d r (g : Y -> R) s : law d -> E (tilt_at d r s) g =
  E d (fun y => g y * exp (s * r y)) / E d (fun y => exp (s * r y)).
Proof. by move=> ld; exact: E_gibbs. Qed.

Lemma is_derive_partition d r s :
  is_derive (fun s => E d (fun y => exp (s * r y))) s (E d (fun y => r y * exp (s * r y))).
Proof.
apply: (is_derive_ext (fun s => E d (fun y => 1 * exp (s * r y)))) => [t|].
  by apply: E_ext => y; ring.
by rewrite (@E_ext _ _ _ (fun y => 1 * r y * exp (s * r y))) => [|y]; [exact: is_derive_moment | ring].
Qed.

Theorem loss_derivative d r s : law d ->
  is_derive (fun s => CE d (tilt_at d r s) - CE d d) s (E (tilt_at d r s) r - E d r).
Proof.
move=> ld; have z0 := E_exp_gt0 (fun y => s * r y) ld.
apply: (is_derive_ext (fun s => ln (E d (fun y => exp (s * r y))) - s * E d r)) => [t|].
  by rewrite loss_change_tilt_at.
rewrite E_tilt_at //; apply: (@is_derive_minus _ _ (fun s => ln _) (fun s => s * _)).
  have dln : is_derive ln (E d (fun y => exp (s * r y))) (/ E d (fun y => exp (s * r y))).
    by auto_derive => //; field; lra.
  exact: (is_derive_comp _ _ _ _ _ dln (is_derive_partition d r s)).
by auto_derive => //; ring.
Qed.

Theorem reward_derivative d r s : law d ->
  is_derive (fun s => E (tilt_at d r s) r) s (Var (tilt_at d r s) r).
Proof.
move=> ld; have z0 := E_exp_gt0 (fun y => s * r y) ld.
have ls : law (tilt_at d r s) by exact: gibbs_law.
apply: (is_derive_ext (fun s => E d (fun y => r y * exp (s * r y)) / E d (fun y => exp (s * r y)))) =>
  [t|].
  by rewrite E_tilt_at.
rewrite Var_moments // !E_tilt_at //.
have := is_derive_div _ _ _ _ _ (is_derive_moment d r r s) (is_derive_partition d r s) ltac:(lra).
set z := E d (fun y => exp (s * r y)); set m1 := E d (fun y => r y * exp (s * r y)).
set m2 := E d (fun y => r y * r y * exp (s * r y)).
rewrite (@E_ext _ _ (fun y => r y ^ 2 * _) (fun y => r y * r y * exp (s * r y))); last by move=> y;
  ring.
rewrite -/m2 (_ : m2 / z - (m1 / z) ^ 2 = (m2 * z - m1 * m1) / z ^ 2) //.
by field; rewrite /z; lra.
Qed.

Corollary gain_derivative d r s : law d ->
  is_derive (fun s => E (tilt_at d r s) r - E d r) s (Var (tilt_at d r s) r) /\
  0 <= Var (tilt_at d r s) r.
Proof.
move=> ld; split; last by apply: Var_ge0; exact: gibbs_law.
rewrite -(Rminus_0_r (Var _ r)).
apply: (@is_derive_minus _ _ (fun s => E _ r) (fun _ => E d r)); last exact: is_derive_const.
exact: reward_derivative.
Qed.

(** S4. The integral form, and with it DeltaL'(s) = int_0^s Var. *)
Lemma ex_derive_E_tilt_at d r (g : Y -> R) s : law d -> ex_derive (fun s => E (tilt_at d r s) g) s.
Proof.
move=> ld; have z0 := E_exp_gt0 (fun y => s * r y) ld.
apply: (ex_derive_ext (fun s => E d (fun y => g y * exp (s * r y)) / E d (fun y => exp (s * r y)))) =>
  [t|].
  by rewrite E_tilt_at.
eexists; apply: (is_derive_div _ _ _ _ _ (is_derive_moment d r g s) (is_derive_partition d r s)).
by cbv beta; lra.
Qed.

Theorem reward_gain_integral d r s : law d ->
  is_RInt (fun u => Var (tilt_at d r u) r) 0 s (E (tilt_at d r s) r - E d r).
Proof.
move=> ld; rewrite -(E_tilt_at_0 r r ld).
apply: (is_RInt_derive (fun s => E (tilt_at d r s) r)) => u _; first exact: reward_derivative.
apply: ex_derive_continuous.
set g := fun u => E (tilt_at d r u) (fun y => r y ^ 2) - E (tilt_at d r u) r * E (tilt_at d r u) r.
have e t : g t = Var (tilt_at d r t) r.
  by rewrite /g Var_moments; [ring | exact: gibbs_law].
apply: (ex_derive_ext g) => [t|]; first exact: e.
apply: (@ex_derive_minus _ _ (fun u => E _ _) (fun u => _ * _)); first exact: ex_derive_E_tilt_at.
by apply: ex_derive_mult; exact: ex_derive_E_tilt_at.
Qed.

(** S3. For small s, DeltaL(tilt_s) is s^2 Var_d(r)/2 up to o(s^2). *)
Theorem coupling_small_time d r eps : law d -> 0 < eps -> exists delta, 0 < delta /\
  forall s, 0 < s < delta -> Rabs (CE d (tilt_at d r s) - CE d d - s ^ 2 * Var d r / 2) <= eps * s ^ 2.
Proof.
move=> ld e0; have /is_derive_Reals D := reward_derivative r 0 ld.
have [[delta d0] near] := D (2 * eps) ltac:(lra); exists delta; split=> // s [s0 sd].
rewrite (_ : Var (tilt_at d r 0) r = Var d r) /= in near; last first.
  by rewrite !Var_moments ?E_tilt_at_0 //; exact: gibbs_law.
set v := Var d r in near *.
have slope u : 0 <= u <= s -> Rabs (E (tilt_at d r u) r - E d r - v * u) <= 2 * eps * u.
  case=> [[u0|<-] us]; last by rewrite E_tilt_at_0 // (_ : _ - _ = 0) ?Rabs_R0; lra.
  have := near u ltac:(lra) ltac:(rewrite Rabs_pos_eq; lra);
    rewrite Rplus_0_l E_tilt_at_0 // => /Rlt_le h.
  have -> : E (tilt_at d r u) r - E d r - v * u = ((E (tilt_at d r u) r - E d r) / u - v) * u by field;
    lra.
  by rewrite Rabs_mult (Rabs_pos_eq u); [apply: Rmult_le_compat_r; lra | lra].
have L0 : CE d (tilt_at d r 0) - CE d d = 0.
  have z : E d (fun y => exp (0 * r y)) = 1.
    by rewrite -(E_const 1 ld); apply: E_ext => y; rewrite Rmult_0_l exp_0.
  by rewrite loss_change_tilt_at // z ln_1; ring.
have side (k : R) : (forall u, 0 <= u <= s ->
  0 <= k * (E (tilt_at d r u) r - E d r - v * u) + 2 * eps * u) ->
  0 <= k * (CE d (tilt_at d r s) - CE d d - s ^ 2 * v / 2) + eps * s ^ 2.
  move=> pos; set h := fun u => k * (CE d (tilt_at d r u) - CE d d - u ^ 2 * v / 2) + eps * u ^ 2.
  have h0 : h 0 = 0 by rewrite /h L0; field.
  rewrite -/(h s) -h0.
  apply: (@nondecreasing_between h (fun u => k * (E (tilt_at d r u) r - E d r - v * u) + 2 * eps * u))
    => // [u _|]; last by lra.
  have Lu := loss_derivative r u ld; set L := fun u => CE d (tilt_at d r u) - CE d d in Lu.
  change (is_derive (fun u => k * (L u - u ^ 2 * v / 2) + eps * u ^ 2) u
    (k * (E (tilt_at d r u) r - E d r - v * u) + 2 * eps * u)).
  auto_derive; first by eexists; exact: Lu.
  by rewrite (is_derive_unique _ _ _ Lu); field.
have hi := side 1 ltac:(move=> u /slope /Rabs_le_between; lra).
have lo := side (-1) ltac:(move=> u /slope /Rabs_le_between; lra).
by apply: Rabs_le; lra.
Qed.

(** S4, R6. What RL gains: beta times the Jeffreys divergence, at least beta DeltaL. *)
Theorem cycle_gain d r beta : law d -> 0 < beta ->
  E (tilt d r beta) r - E d r = beta * (KL d (tilt d r beta) + KL (tilt d r beta) d).
Proof.
by move=> ld b0; rewrite /tilt KL_gibbs // KL_gibbs_self // KL_refl // !E_div; field; lra.
Qed.

Theorem reward_gain_exceeds_loss d r beta : law d -> 0 < beta ->
  beta * (CE d (tilt d r beta) - CE d d) <= E (tilt d r beta) r - E d r.
Proof.
move=> ld b0; rewrite cycle_gain // (proj2 (coupling_gap r beta ld)).
have := KL_ge0 (gibbs_law _ ld) ld (@gibbs_dominated _ d (fun y => r y / beta)).
by rewrite -/(tilt d r beta) => /(Rmult_le_compat_l _ _ _ (Rlt_le _ _ b0)); lra.
Qed.

(** ** S5: price of reward *)

(** Weak duality for K_inf: no policy with reward at least c has a smaller KL(d‖p) than any dual value.
    *)
Theorem price_of_reward d p r c M l : law d -> law p -> d ≪ p -> (forall y, r y <= M) ->
  c < M -> c <= E p r -> 0 <= l < 1 ->
  E d (fun y => ln (1 - l * (r y - c) / (M - c))) <= KL d p.
Proof.
move=> ld lp dp rM cM cp l01; set w := fun y => 1 - l * (r y - c) / (M - c).
have w0 y : 0 < w y.
  rewrite /w (_ : l * (r y - c) / (M - c) = l * ((r y - c) / (M - c))); last by rewrite /Rdiv; ring.
  have : (r y - c) / (M - c) <= 1.
    by apply: (Rmult_le_reg_r (M - c)); [lra | field_simplify; move: (rM y); lra].
  by move=> /(Rmult_le_compat_l l _ _ (proj1 l01)); lra.
have Ew : E p w <= 1.
  rewrite /w (@E_ext _ _ _ (fun y => 1 - l / (M - c) * (r y - c))); last by move=> y; field; lra.
  rewrite E_minus E_scal E_minus !E_const //.
  have : 0 <= l / (M - c) by apply: Rle_mult_inv_pos; lra.
  by move=> /Rmult_le_pos /(_ (_ : 0 <= E p r - c)) h; have := h ltac:(lra); lra.
have e : E p (fun y => exp (ln (w y))) = E p w by apply: E_ext => y; rewrite exp_ln.
have := donsker_varadhan (fun y => ln (w y)) ld lp dp; have := E_exp_gt0 (fun y => ln (w y)) lp.
rewrite e => /ln_le_sub1 le dv; change (E d (fun y => ln (w y)) <= KL d p); lra.
Qed.

(** ... and it is attained: where the dual optimum has l < 1, by p = d / (1 - l (r - c)/(M - c)). *)
Theorem price_of_reward_attained d p r c M l : law d -> law p -> (forall y, r y <= M) ->
  c < M -> 0 <= l < 1 -> (forall y, p y = d y / (1 - l * (r y - c) / (M - c))) ->
  KL d p = E d (fun y => ln (1 - l * (r y - c) / (M - c))).
Proof.
move=> ld lp rM cM l01 pE; apply: sum_ext => y; rewrite pE.
case: (law_case y ld) => [->|dy]; first by ring.
congr (_ * ln _); set w := 1 - _; have : d y / w <> 0; last first.
  by move=> nz; field; split; [move=> w0; apply: nz; rewrite w0 /Rdiv Rinv_0; ring | lra].
suff : 0 < w by move=> w0; have := Rdiv_lt_0_compat _ _ dy w0; lra.
rewrite /w (_ : l * (r y - c) / (M - c) = l * ((r y - c) / (M - c))); last by rewrite /Rdiv; ring.
have : (r y - c) / (M - c) <= 1.
  by apply: (Rmult_le_reg_r (M - c)); [lra | field_simplify; move: (rM y); lra].
by move=> /(Rmult_le_compat_l l _ _ (proj1 l01)); lra.
Qed.

(** The Pinsker form. At SFT optimality DeltaL(p) = KL(d‖p) is at least 2 (J(p) - J(d))^2 / R^2. *)
Theorem price_of_reward_pinsker d p r m M : law d -> law p -> d ≪ p -> (forall y, m <= r y <= M) ->
  m < M -> 2 * (E p r - E d r) ^ 2 / (M - m) ^ 2 <= CE d p - CE d d.
Proof.
move=> ld lp dp mM w; rewrite loss_change_is_KL_difference ?KL_refl // Rminus_0_r.
have w2 : 0 < (M - m) ^ 2 by apply: pow_lt; lra.
have := pinsker ld lp dp mM; rewrite (_ : (E d r - E p r) ^ 2 = (E p r - E d r) ^ 2); last by ring.
move=> h; apply: (Rmult_le_reg_l ((M - m) ^ 2)) => //.
by rewrite (_ : _ * (2 * _ / _) = 2 * (E p r - E d r) ^ 2) //; field; lra.
Qed.

(** ** S6: non-decoupling threshold *)

Theorem threshold_identity d ref r beta : law d -> law ref -> d ≪ ref -> 0 < beta ->
  CE d (tilt ref r beta) - CE d ref = KL ref (tilt ref r beta) - (E d r - E ref r) / beta.
Proof.
move=> ld lr dr b0; rewrite loss_change_tilt // /tilt KL_gibbs // KL_refl // E_div -/(Z ref r beta).
by field; lra.
Qed.

Theorem threshold_iff d ref r beta : law d -> law ref -> d ≪ ref -> 0 < beta ->
  CE d (tilt ref r beta) < CE d ref <-> beta * ln (Z ref r beta) < E d r.
Proof.
move=> ld lr dr b0; have := loss_change_tilt r beta ld lr dr.
set e := E d r / beta; have -> : E d r = beta * e by rewrite /e; field; lra.
split=> h; first by apply: Rmult_lt_compat_l; lra.
by apply Rmult_lt_reg_l in h => //; lra.
Qed.

Theorem threshold_pinsker d ref r beta m M : law d -> law ref -> d ≪ ref -> 0 < beta ->
  (forall y, m <= r y <= M) -> m < M ->
  KL d ref < 2 * (beta * KL ref (tilt ref r beta) / (M - m)) ^ 2 ->
  CE d ref < CE d (tilt ref r beta).
Proof.
move=> ld lr dr b0 mM w close; set k := KL ref (tilt ref r beta) in close *.
have k0 : 0 <= k by apply: KL_ge0 => //; [exact: gibbs_law | exact: dominated_gibbs].
apply: Rnot_le_lt => le; have id := threshold_identity r ld lr dr b0; rewrite -/k in id.
have gain : beta * k <= E d r - E ref r.
  rewrite (_ : E d r - E ref r = beta * ((E d r - E ref r) / beta)); last by field; lra.
  by apply: Rmult_le_compat_l; lra.
have bk := Rmult_le_pos _ _ (Rlt_le _ _ b0) k0.
have sq : (beta * k) ^ 2 <= (E d r - E ref r) ^ 2 by apply: pow_incr; lra.
have w2 : 0 < (M - m) ^ 2 by apply: pow_lt; lra.
have := pinsker ld lr dr mM.
have := Rmult_lt_compat_l _ _ _ w2 close.
by rewrite (_ : _ * (2 * _) = 2 * (beta * k) ^ 2); [lra | field; lra].
Qed.

(** The exact radius: t solves J(tilt_t) = beta log Z, the value that E_d r has at the threshold. *)
Theorem threshold_exact_radius d ref r beta t : law d -> law ref -> d ≪ ref -> 0 < beta -> 0 < t ->
  E (tilt_at ref r t) r = beta * ln (Z ref r beta) ->
  KL d ref < KL (tilt_at ref r t) ref ->
  CE d ref < CE d (tilt ref r beta).
Proof.
move=> ld lr dr b0 t0 tE close; apply: Rnot_le_lt => le.
have id := loss_change_tilt r beta ld lr dr.
have gain : beta * ln (Z ref r beta) <= E d r.
  rewrite (_ : E d r = beta * (E d r / beta)); last by field; lra.
  by apply: Rmult_le_compat_l; lra.
have := KL_ge0 ld (gibbs_law (fun y => t * r y) lr) (@dominated_gibbs _ d ref (fun y => t * r y) lr dr).
rewrite KL_gibbs //; move: close; rewrite /tilt_at KL_gibbs_self // !E_scal.
rewrite -/(tilt_at ref r t) tE => close.
by have := Rmult_le_compat_l _ _ _ (Rlt_le _ _ t0) gain; lra.
Qed.

(** Such a t exists, strictly between 0 and 1/beta, unless r is constant on the support of ref. *)
Lemma tilt_at_inverse ref r beta y : tilt_at ref r (/ beta) y = tilt ref r beta y.
Proof.
rewrite /tilt_at /tilt /gibbs (@E_ext _ _ _ (fun z => exp (r z / beta))) => [|z].
  by rewrite /Rdiv (Rmult_comm (/ beta)).
by rewrite /Rdiv Rmult_comm.
Qed.

Theorem threshold_radius_exists ref r beta : law ref -> 0 < beta ->
  (exists y z, 0 < ref y /\ 0 < ref z /\ r y <> r z) ->
  exists t, 0 < t < / beta /\ E (tilt_at ref r t) r = beta * ln (Z ref r beta).
Proof.
move=> lr b0 nc; have s0 := Rinv_0_lt_compat _ b0.
have nid : ~ forall y, tilt ref r beta y = ref y.
  by move/(tilt_id_iff r lr b0) => c; case: nc => y [z [ry [rz]]]; case; exact: c.
have lt : law (tilt ref r beta) by exact: gibbs_law.
have rt : ref ≪ tilt ref r beta by exact: dominated_gibbs.
have tr : tilt ref r beta ≪ ref by exact: gibbs_dominated.
have up : 0 < KL ref (tilt ref r beta).
  case: (KL_ge0 lr lt rt) => // e; case: nid => y; symmetry; move: y; apply/KL_eq0 => //.
have down : 0 < KL (tilt ref r beta) ref.
  by case: (KL_ge0 lt lr tr) => // e; case: nid; apply/KL_eq0.
set f := fun t => E (tilt_at ref r t) r.
have f0 : f 0 < beta * ln (Z ref r beta).
  rewrite /f E_tilt_at_0 //; have := Rmult_lt_0_compat _ _ b0 up.
  rewrite /tilt KL_gibbs // KL_refl // E_div -/(Z ref r beta).
  by rewrite (_ : beta * _ = beta * ln (Z ref r beta) - E ref r); [lra | field; lra].
have f1 : beta * ln (Z ref r beta) < f (/ beta).
  rewrite /f (E_law_ext r (tilt_at_inverse ref r beta)); have := Rmult_lt_0_compat _ _ b0 down.
  rewrite /tilt KL_gibbs_self // E_div -/(Z ref r beta) -/(tilt ref r beta).
  by rewrite (_ : beta * _ = E (tilt ref r beta) r - beta * ln (Z ref r beta)); [lra | field; lra].
have cont : Ranalysis1.continuity f.
  move=> u; apply/continuity_pt_filterlim; apply: ex_derive_continuous.
  by eexists; exact: reward_derivative.
have [t [[t0 t1] ft]] := IVT_gen f 0 (/ beta) (beta * ln (Z ref r beta)) cont
  ltac:(rewrite Rmin_left ?Rmax_right; lra).
rewrite Rmin_left in t0; last by lra. rewrite Rmax_right in t1; last by lra.
exists t; split=> //; split.
  by case: t0 => // e; rewrite -e in ft; lra.
by case: t1 => // e; rewrite e in ft; lra.
Qed.

(** The radius is never smaller than Pinsker's, and at d = tilt_t the loss does not change. *)
Theorem threshold_radius_vs_pinsker ref r beta t m M : law ref -> 0 < beta ->
  (forall y, m <= r y <= M) -> m < M -> E (tilt_at ref r t) r = beta * ln (Z ref r beta) ->
  2 * (beta * KL ref (tilt ref r beta) / (M - m)) ^ 2 <= KL (tilt_at ref r t) ref.
Proof.
move=> lr b0 mM w tE; have w2 : 0 < (M - m) ^ 2 by apply: pow_lt; lra.
have lt : law (tilt_at ref r t) by exact: gibbs_law.
have := pinsker lt lr (@gibbs_dominated _ ref _) mM; rewrite tE.
rewrite /tilt KL_gibbs // KL_refl // E_div -/(Z ref r beta) => h.
apply: (Rmult_le_reg_l ((M - m) ^ 2)) => //; apply: Rle_trans h; apply: Req_le.
by field; lra.
Qed.

Theorem threshold_radius_tight ref r beta t : law ref -> 0 < beta ->
  E (tilt_at ref r t) r = beta * ln (Z ref r beta) ->
  CE (tilt_at ref r t) (tilt ref r beta) = CE (tilt_at ref r t) ref.
Proof.
move=> lr b0 tE; have lt : law (tilt_at ref r t) by exact: gibbs_law.
have := loss_change_tilt r beta lt lr (@gibbs_dominated _ ref _); rewrite tE.
by rewrite (_ : beta * _ / beta = ln (Z ref r beta)); [lra | field; lra].
Qed.

(** The best early stop is where the tilt has the data's reward. *)
Theorem best_early_stop d ref r s0 s : law d -> law ref -> d ≪ ref ->
  E (tilt_at ref r s0) r = E d r ->
  CE d (tilt_at ref r s0) - CE d ref = - KL (tilt_at ref r s0) ref /\
  CE d (tilt_at ref r s) - CE d ref =
    (CE d (tilt_at ref r s0) - CE d ref) + KL (tilt_at ref r s0) (tilt_at ref r s).
Proof.
move=> ld lr dr e; rewrite KL_tilt_at // e /tilt_at !loss_change_gibbs // KL_gibbs_self // !E_scal.
by rewrite -/(tilt_at ref r s0) e; split; ring.
Qed.

(** ** S7: approximate SFT optimum, any RL algorithm *)

Theorem approximate_optimum d p ref r m M eps : law d -> law p -> law ref -> d ≪ p -> d ≪ ref ->
  (forall y, m <= r y <= M) -> KL d ref <= eps ->
  E p r <= E d r + (M - m) * sqrt ((eps + (CE d p - CE d ref)) / 2).
Proof.
move=> ld lp lr dp dr mM close; rewrite loss_change_is_KL_difference //.
have R0 : 0 <= M - m by case: (law_support ld) => y _; move: (mM y); lra.
have k0 := KL_ge0 ld lp dp.
have : Rabs (E d r - E p r) <= (M - m) * sqrt ((eps + (KL d p - KL d ref)) / 2).
  apply: abs_le_sqrt; [by [] | by lra |].
  apply: (Rle_trans _ _ _ (pinsker ld lp dp mM)).
  by apply: Rmult_le_compat_l; [exact: pow2_ge_0 | lra].
by move: (Rle_abs (- (E d r - E p r))); rewrite Rabs_Ropp; lra.
Qed.

Theorem approximate_optimum_dual d p ref r c M l eps : law d -> law p -> law ref -> d ≪ p -> d ≪ ref ->
  (forall y, r y <= M) -> c < M -> c <= E p r -> 0 <= l < 1 -> KL d ref <= eps ->
  E d (fun y => ln (1 - l * (r y - c) / (M - c))) - eps <= CE d p - CE d ref.
Proof.
move=> ld lp lr dp dr rM cM cp l01 close; rewrite loss_change_is_KL_difference //.
by have := price_of_reward ld lp dp rM cM cp l01; lra.
Qed.

End SftThenRl.
