(** * Groups of G independent draws: baselines (T1), expected group-normalised gradient (T4) *)

From Coq Require Import Reals Lra.
From mathcomp Require Import ssreflect ssrfun ssrbool eqtype ssrnat seq fintype bigop binomial.
From Coquelicot Require Import Coquelicot.
From NonDecoupling Require Import Sums Calculus Policies Verifiable.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Local Open Scope R_scope.

(** ** The number of successes among G draws *)

(** Expectation of f(K), K ~ Bin(G, c). *)
Definition binomial (G : nat) (c : R) (f : nat -> R) :=
  \sum_(k : ordinal_finType G.+1) (INR 'C(G, k) * c ^ k * (1 - c) ^ (G - k)%nat * f k).

Lemma sum_first n (F : nat -> R) :
  \sum_(k : ordinal_finType n.+1) F k = F 0%nat + \sum_(k : ordinal_finType n) F k.+1.
Proof. by rewrite /sum big_ord_recl. Qed.

Lemma sum_last n (F : nat -> R) :
  \sum_(k : ordinal_finType n.+1) F k = \sum_(k : ordinal_finType n) F k + F n.
Proof. by rewrite /sum big_ord_recr. Qed.

(** The first draw succeeds with probability c. *)
Lemma binomial_S G c f :
  binomial G.+1 c f = c * binomial G c (fun k => f k.+1) + (1 - c) * binomial G c f.
Proof.
pose T n k := INR 'C(n, k) * c ^ k * (1 - c) ^ (n - k)%nat * f k.
pose T' k := INR 'C(G, k) * c ^ k * (1 - c) ^ (G - k)%nat * f k.+1.
have TS (k : 'I_G.+1) : T G.+1 k.+1 = c * T' k + (1 - c) * T G k.+1.
  rewrite /T /T' binS plus_INR subSS -(tech_pow_Rmult c k).
  case: (ltnP k G) => h; last by rewrite bin_small ?ltnS //; rewrite [INR 0]/=; ring.
  by rewrite -(subnSK h) -(tech_pow_Rmult (1 - c)); ring.
have B1 : binomial G.+1 c f = T G.+1 0%nat + \sum_(k : ordinal_finType G.+1) T G.+1 k.+1.
  exact: (sum_first G.+1 (T G.+1)).
have B0 : binomial G c f = T G 0%nat + \sum_(k : ordinal_finType G) T G k.+1 by exact: (sum_first G (T G)).
have last : \sum_(k : ordinal_finType G.+1) T G k.+1 = \sum_(k : ordinal_finType G) T G k.+1.
  rewrite (sum_last G (fun k => T G k.+1)) {2}/T bin_small // [INR 0]/=; ring.
have head : T G.+1 0%nat = (1 - c) * T G 0%nat.
  by rewrite /T !bin0 !subn0 -(tech_pow_Rmult (1 - c)); ring.
have split : \sum_(k : ordinal_finType G.+1) T G.+1 k.+1 =
    c * binomial G c (fun k => f k.+1) + (1 - c) * \sum_(k : ordinal_finType G.+1) T G k.+1.
  by rewrite /binomial !collect; apply: sum_ext => k; rewrite TS.
by rewrite B1 B0 split last head; ring.
Qed.

Lemma binomial_ext G c f f' : (forall k, f k = f' k) -> binomial G c f = binomial G c f'.
Proof. by move=> e; apply: sum_ext => k; rewrite e. Qed.

Lemma binomial_le G c f f' : 0 <= c <= 1 -> (forall k, (k <= G)%nat -> f k <= f' k) ->
  binomial G c f <= binomial G c f'.
Proof.
move=> c01 le; apply: sum_le => k; apply: Rmult_le_compat_l; last by apply: le; rewrite -ltnS.
by repeat apply: Rmult_le_pos; [exact: pos_INR | apply: pow_le; lra | apply: pow_le; lra].
Qed.

Lemma binomial_0 c f : binomial 0 c f = f 0%nat.
Proof. by rewrite /binomial /sum big_ord_recl big_ord0 /= ?bin0 /=; ring. Qed.

(** Moments up to the second. *)
Lemma binomial_quadratic G c x y z :
  binomial G c (fun k => x + y * INR k + z * INR k ^ 2) =
  x + y * (INR G * c) + z * (INR G * c * (1 - c) + (INR G * c) ^ 2).
Proof.
elim: G x y z => [|G IH] x y z; first by rewrite binomial_0 /=; ring.
rewrite binomial_S IH (binomial_ext _ _
  (f' := fun k => (x + y + z) + (y + 2 * z) * INR k + z * INR k ^ 2)).
  by rewrite IH S_INR; ring.
by move=> k; rewrite S_INR; ring.
Qed.

(** k P(K = k) = G c P'(k - 1) and (G - k) P(K = k) = G (1 - c) P'(k), P' for G - 1 draws. *)
Lemma binomial_times_k G c f :
  binomial G.+1 c (fun k => INR k * f k) = INR G.+1 * c * binomial G c (fun k => f k.+1).
Proof.
elim: G f => [|G IH] f.
  by rewrite binomial_S !binomial_0 /=; ring.
rewrite binomial_S IH (binomial_ext _ _ (f' := fun k => INR k * f k.+1 + f k.+1)); last first.
  by move=> k; rewrite S_INR; ring.
have -> : binomial G.+1 c (fun k => INR k * f k.+1 + f k.+1) =
  binomial G.+1 c (fun k => INR k * f k.+1) + binomial G.+1 c (fun k => f k.+1).
  by rewrite /binomial collect; apply: sum_ext => k; ring.
by rewrite IH (binomial_S G c (fun k => f k.+1)) (S_INR G.+1); ring.
Qed.

Lemma binomial_times_rest G c f :
  binomial G.+1 c (fun k => (INR G.+1 - INR k) * f k) = INR G.+1 * (1 - c) * binomial G c f.
Proof.
have -> : binomial G.+1 c (fun k => (INR G.+1 - INR k) * f k) =
  INR G.+1 * binomial G.+1 c f - binomial G.+1 c (fun k => INR k * f k).
  by rewrite /binomial !collect; apply: sum_ext => k; ring.
by rewrite binomial_times_k binomial_S; ring.
Qed.

(** The derivative in c is G times the mean increment. *)
Lemma binomial_derivative G (c : R) f :
  is_derive (fun c => binomial G.+1 c f) c (INR G.+1 * binomial G c (fun k => f k.+1 - f k)).
Proof.
elim: G f => [|G IH] f.
  apply: (is_derive_ext (fun c => c * f 1%nat + (1 - c) * f 0%nat)) => [t|].
    by rewrite binomial_S !binomial_0.
  by auto_derive => //; rewrite binomial_0 /=; ring.
apply: (is_derive_ext (fun c => c * binomial G.+1 c (fun k => f k.+1) + (1 - c) * binomial G.+1 c f)) => [t|].
  by rewrite [RHS]binomial_S.
have d1 := IH (fun k => f k.+1); have d2 := IH f.
have diff : binomial G.+1 c (fun k => f k.+1 - f k) =
    binomial G.+1 c (fun k => f k.+1) - binomial G.+1 c f.
  by rewrite /binomial collect; apply: sum_ext => k; ring.
have rec := binomial_S G c (fun k => f k.+1 - f k).
set B1 := fun c => binomial G.+1 c (fun k => f k.+1) in d1.
set B2 := fun c => binomial G.+1 c f in d2.
have ex1 : ex_derive B1 c by eexists; exact: d1.
have ex2 : ex_derive B2 c by eexists; exact: d2.
change (is_derive (fun c => c * B1 c + (1 - c) * B2 c) c
  (INR G.+2 * binomial G.+1 c (fun k => f k.+1 - f k))).
auto_derive; first by [].
rewrite (is_derive_unique _ _ _ d1) (is_derive_unique _ _ _ d2).
set X := binomial G.+1 c _ in diff rec *; have -> : INR G.+2 * X = INR G.+1 * X + X by rewrite S_INR; ring.
by rewrite {1}rec diff /B1 /B2; ring.
Qed.

(** Concave values give a concave mean: its chords lie below it. *)
Lemma binomial_chord G f a b c : 0 <= a < c -> c < b <= 1 ->
  (forall k, (k.+2 <= G.+2)%nat -> f k.+2 + f k <= 2 * f k.+1) ->
  (b - c) * binomial G.+2 a f + (c - a) * binomial G.+2 b f <= (b - a) * binomial G.+2 c f.
Proof.
move=> ac cb conc; pose D x := INR G.+2 * binomial G.+1 x (fun k => f k.+1 - f k).
have dB x : is_derive (fun x => binomial G.+2 x f) x (D x) by exact: binomial_derivative.
pose D2 x := INR G.+2 * (INR G.+1 * binomial G x (fun k => f k.+2 - f k.+1 - (f k.+1 - f k))).
have dD x : is_derive D x (D2 x) by apply: is_derive_scal; exact: binomial_derivative.
have neg x : 0 <= x <= 1 -> D2 x <= 0.
  move=> x01; have : binomial G x (fun k => f k.+2 - f k.+1 - (f k.+1 - f k)) <= binomial G x (fun _ => 0).
    by apply: binomial_le => // k kG; have := conc k ltac:(by rewrite !ltnS); lra.
  rewrite {2}/binomial (_ : \sum_(k : ordinal_finType G.+1) _ = 0); last first.
    by rewrite -[RHS](sum_0 (ordinal_finType G.+1)); apply: sum_ext => k; ring.
  move=> h; have := Rmult_le_pos _ _ (Rmult_le_pos _ _ (pos_INR G.+2) (pos_INR G.+1))
    (Ropp_0_ge_le_contravar _ (Rle_ge _ _ h)).
  by rewrite /D2; lra.
have mvt u v : u < v -> exists x, u <= x <= v /\ binomial G.+2 v f - binomial G.+2 u f = D x * (v - u).
  move=> uv; have [||x [hx e]] := @MVT_gen (fun x => binomial G.+2 x f) u v D.
  - by move=> x _; exact: dB.
  - by move=> x _; apply/continuity_pt_filterlim/ex_derive_continuous; eexists; exact: dB.
  by exists x; rewrite Rmin_left ?Rmax_right in hx; try lra; split.
have [x [hx ex]] := mvt a c (proj2 ac); have [y [hy ey]] := mvt c b (proj1 cb).
have le : D y <= D x.
  suff: - D x <= - D y by lra.
  apply: (@nondecreasing_between (fun x => - D x) (fun x => - D2 x)) => [z hz|z hz|]; last by lra.
    by apply: is_derive_opp; exact: dD.
  by have := neg z ltac:(lra); lra.
have k := Rmult_lt_0_compat (c - a) (b - c) ltac:(lra) ltac:(lra).
have := Rmult_le_compat_l _ _ _ (Rlt_le _ _ k) le.
have e1 : (c - a) * (b - c) * D x = (b - c) * (binomial G.+2 c f - binomial G.+2 a f) by rewrite ex; ring.
have e2 : (c - a) * (b - c) * D y = (c - a) * (binomial G.+2 b f - binomial G.+2 c f) by rewrite ey; ring.
by rewrite e1 e2; lra.
Qed.

Section Draws.
Variable Y : finType.
Implicit Types (p r a b f S : Y -> R) (F : seq Y -> R) (n : nat).

(** Expectation of F over n independent draws from p. *)
Fixpoint draws p n F : R := if n is m.+1 then E p (fun y => draws p m (fun l => F (y :: l))) else F [::].

(** Sum of f over a group. *)
Definition total f (l : seq Y) := \big[Rplus/0]_(y <- l) f y.

Lemma total_cons f y l : total f (y :: l) = f y + total f l.
Proof. by rewrite /total big_cons. Qed.

Lemma draws_ext p n F F' : (forall l, size l = n -> F l = F' l) -> draws p n F = draws p n F'.
Proof.
elim: n F F' => [|n IH] F F' e /=; first exact: e.
by apply: E_ext => y; apply: IH => l s; apply: e; rewrite /= s.
Qed.

Lemma draws_plus p n F F' : draws p n (fun l => F l + F' l) = draws p n F + draws p n F'.
Proof.
elim: n F F' => [|n IH] F F' //=; rewrite -E_plus; apply: E_ext => y; exact: IH.
Qed.

Lemma draws_scal p n x F : draws p n (fun l => x * F l) = x * draws p n F.
Proof. elim: n F => [|n IH] F //=; rewrite -E_scal; apply: E_ext => y; exact: IH. Qed.

Lemma draws_const p n x : law p -> draws p n (fun _ => x) = x.
Proof. by move=> lp; elim: n => //= n IH; rewrite -[RHS](E_const x lp); apply: E_ext. Qed.

Lemma draws_total p n f : law p -> draws p n (total f) = INR n * E p f.
Proof.
move=> lp; elim: n => [|n IH]; first by rewrite /= /total big_nil; ring.
rewrite S_INR /= (@E_ext _ _ _ (fun y => f y + INR n * E p f)) => [|y].
  by rewrite E_plus E_const //; ring.
rewrite (@draws_ext _ _ _ (fun l => f y + total f l)) => [|l _]; last exact: total_cons.
by rewrite draws_plus draws_const // IH.
Qed.

(** Draws are independent: a sum times a sum of mean zero. *)
Lemma draws_product p n a b : law p -> E p b = 0 ->
  draws p n (fun l => total a l * total b l) = INR n * E p (fun y => a y * b y).
Proof.
move=> lp b0; elim: n => [|n IH]; first by rewrite /= /total !big_nil; ring.
rewrite S_INR /= (@E_ext _ _ _ (fun y => a y * b y + (INR n * E p a * b y + INR n * E p (fun y => a y *
  b y)))) => [|y].
  by rewrite !E_plus E_scal E_const // b0; ring.
rewrite (@draws_ext _ _ _ (fun l => a y * b y + (a y * total b l + (b y * total a l + total a l * total
  b l)))).
  by rewrite !draws_plus !draws_scal draws_const // !draws_total // IH b0; ring.
by move=> l _; rewrite !total_cons; ring.
Qed.

(** T1. With the mean of the other G - 1 rewards as a baseline the expected gradient is E_p[r S]; with the
    mean of all G it is (G - 1)/G of that. S is the score in some direction; E_p S = 0. *)
Theorem baselines p r S G : law p -> E p S = 0 -> (1 < G)%nat ->
  draws p G (fun l => total (fun y => (r y - (total r l - r y) / (INR G - 1)) * S y) l / INR G) =
  E p (fun y => r y * S y) /\
  draws p G (fun l => total (fun y => (r y - total r l / INR G) * S y) l / INR G) =
  (INR G - 1) / INR G * E p (fun y => r y * S y).
Proof.
move=> lp s0 g1; have g : 2 <= INR G by move/ltP/le_INR: g1 => /=; lra.
have lin x (f h : Y -> R) l : total (fun y => f y + x * h y) l = total f l + x * total h l.
  elim: l => [|y l IH]; first by rewrite /total !big_nil; ring.
  by rewrite !total_cons IH; ring.
have rS := draws_total G (fun y => r y * S y) lp; have pr := draws_product G r lp s0.
split.
  rewrite (@draws_ext _ _ _ (fun l => / (INR G - 1) * total (fun y => r y * S y) l
    + - / (INR G * (INR G - 1)) * (total r l * total S l))).
    by rewrite draws_plus !draws_scal rS pr; field; lra.
  move=> l _; rewrite (_ : total _ l = total (fun y => (INR G / (INR G - 1)) * (r y * S y) + (- total r
    l / (INR G - 1)) * S y) l).
    rewrite lin (_ : total (fun y => INR G / (INR G - 1) * (r y * S y)) l =
                     INR G / (INR G - 1) * total (fun y => r y * S y) l); first by field; lra.
    elim: l => [|y l IH]; first by rewrite /total !big_nil; ring.
    by rewrite !total_cons IH; ring.
  by apply: eq_bigr => y _; field; lra.
rewrite (@draws_ext _ _ _ (fun l => / INR G * total (fun y => r y * S y) l
  + - / INR G ^ 2 * (total r l * total S l))).
  by rewrite draws_plus !draws_scal rS pr; field; lra.
move=> l _; rewrite (_ : total _ l = total (fun y => r y * S y + (- total r l / INR G) * S y) l).
  by rewrite lin; field; lra.
by apply: eq_bigr => y _; field; lra.
Qed.

(** ** Binary rewards *)
Variable A : Y -> bool.

Lemma draws_count p n (f : nat -> R) : law p ->
  draws p n (fun l => f (count A l)) = binomial n (success A p) f.
Proof.
move=> lp; elim: n f => [|n IH] f.
  by rewrite binomial_0.
rewrite binomial_S /= (@E_ext _ _ _ (fun y => if A y then binomial n (success A p) (fun k => f k.+1)
                                             else binomial n (success A p) f)) => [|y].
  by rewrite E_weights.
by case: (A y); rewrite -IH; apply: draws_ext.
Qed.

(** Each draw weighted by x(K) if it succeeds and by z(K) if not, times its score. *)
Lemma draws_weighted p S n (x z : nat -> R) : law p -> E p S = 0 ->
  draws p n.+1 (fun l => total (fun y => (if A y then x (count A l) else z (count A l)) * S y) l) =
  INR n.+1 * (binomial n (success A p) (fun k => x k.+1) - binomial n (success A p) z) *
  E p (fun y => hit A y * S y).
Proof.
move=> lp s0; set D := E p (fun y => hit A y * S y); set c := success A p.
have one m (u v : nat -> R) : E p (fun y => (if A y then binomial m c (fun k => u k.+1) else binomial m
  c v) * S y) =
    (binomial m c (fun k => u k.+1) - binomial m c v) * D.
  rewrite /D -E_scal -[RHS]Rplus_0_r -(Rmult_0_r (binomial m c v)) -s0 -E_scal -E_plus.
  by apply: E_ext => y; rewrite /hit; case: (A y); ring.
have step m (u v : nat -> R) : draws p m.+1 (fun l => total (fun y => (if A y then u (count A l) else v
  (count A l)) * S y) l) =
   (binomial m c (fun k => u k.+1) - binomial m c v) * D +
   (c * draws p m (fun l => total (fun y => (if A y then u (count A l).+1 else v (count A l).+1) * S y) l) +
    (1 - c) * draws p m (fun l => total (fun y => (if A y then u (count A l) else v (count A l)) * S y) l)).
  rewrite -one -E_weights // -E_plus /=; apply: E_ext => y.
  rewrite (@draws_ext _ _ _ (fun l => (if A y then u (count A l).+1 else v (count A l)) * S y +
     total (fun y' => (if A y' then u (A y + count A l)%nat else v (A y + count A l)%nat) * S y') l)).
    rewrite draws_plus; congr (_ + _); last by case: (A y).
    rewrite (@draws_ext _ _ _ (fun l => S y * (if A y then u (count A l).+1 else v (count A l)))) => [|l _].
      rewrite draws_scal Rmult_comm; congr (_ * _).
      by case: (A y); [exact: (draws_count m (fun k => u k.+1)) | exact: draws_count].
    by rewrite Rmult_comm.
  by move=> l _; rewrite total_cons /=; congr (_ * _ + _); case: (A y).
elim: n x z => [|n IH] x z.
  by rewrite step /= /total !big_nil; ring.
rewrite step IH (IH (fun k => x k.+1) (fun k => z k.+1)) (S_INR n.+1).
by rewrite (binomial_S n c (fun k => x k.+1)) (binomial_S n c z); ring.
Qed.

(** T4. The expected gradient with advantages (r - m) phi(K), K successes in the group and m = K/G: that of
    the success rate, E_p[1_A S], times E[m(1-m) phi(K)]/(c(1-c)). phi = 1/(sd + epsilon). *)
Theorem group_gradient p S (G : nat) (phi : nat -> R) : law p -> E p S = 0 -> (0 < G)%nat ->
  0 < success A p < 1 ->
  let c := success A p in
  draws p G (fun l => total (fun y =>
    (hit A y - INR (count A l) / INR G) * phi (count A l) * S y) l / INR G) =
  binomial G c (fun k => INR k / INR G * (1 - INR k / INR G) * phi k) / (c * (1 - c)) *
  E p (fun y => hit A y * S y).
Proof.
move=> lp s0; case: G => // n _ c01 c; set G := INR n.+1.
have g : 0 < G by rewrite /G S_INR; move: (pos_INR n); lra.
rewrite (@draws_ext _ _ _ (fun l => / G * total (fun y => (if A y then (1 - INR (count A l) / G) * phi
  (count A l)
   else (- (INR (count A l) / G)) * phi (count A l)) * S y) l)); last first.
  move=> l _; rewrite /Rdiv Rmult_comm; congr (_ * _); apply: eq_bigr => y _; rewrite /hit.
  by case: (A y); ring.
rewrite draws_scal (draws_weighted n (fun k => (1 - INR k / G) * phi k) (fun k => - (INR k / G) * phi k)) //.
rewrite -/c -/G in c01 *; clearbody c; rewrite -Rmult_assoc; congr (_ * _).
have up := binomial_times_k n c (fun k => (1 - INR k / G) * phi k).
have dn := binomial_times_rest n c (fun k => - (INR k / G) * phi k).
rewrite -/G in up dn; clearbody G.
set x := binomial n c (fun k => (1 - INR k.+1 / G) * phi k.+1) in up *.
set z := binomial n c _ in dn *.
have -> : binomial n.+1 c (fun k => INR k / G * (1 - INR k / G) * phi k) =
  (1 - c) / G * binomial n.+1 c (fun k => INR k * ((1 - INR k / G) * phi k)) -
  c / G * binomial n.+1 c (fun k => (G - INR k) * (- (INR k / G) * phi k)).
  by rewrite /binomial !collect; apply: sum_ext => k; field; lra.
by rewrite up dn; field; lra.
Qed.

End Draws.

(** T11. A noisy verifier of groups: a response in A passes with probability 1 - f1, another with f0. A draw
    is a response and its verdict; the expected gradient is that of the success rate times 1 - f0 - f1
    times the factor at the rate of passing. *)
Theorem noisy_group_gradient (Y : finType) (A : Y -> bool) (p S : Y -> R) (f0 f1 : R) (G : nat)
  (phi : nat -> R) : law p -> E p S = 0 -> (0 < G)%nat -> 0 <= f0 <= 1 -> 0 <= f1 <= 1 ->
  let passes y := if A y then 1 - f1 else f0 in
  let joint (z : prod_finType Y bool_finType) := p z.1 * (if z.2 then passes z.1 else 1 - passes z.1) in
  let c := f0 + (1 - f0 - f1) * success A p in
  0 < c < 1 ->
  draws joint G (fun l => total (fun z =>
    (hit (fun z => z.2) z - INR (count (fun z => z.2) l) / INR G) * phi (count (fun z => z.2) l) * S
      z.1) l / INR G) =
  (1 - f0 - f1) * (binomial G c (fun k => INR k / INR G * (1 - INR k / INR G) * phi k) / (c * (1 - c))) *
  E p (fun y => hit A y * S y).
Proof.
move=> lp s0 G0 f0_ f1_ passes joint c c01.
have lj : law joint.
  split=> [z|].
    by rewrite /joint /passes; apply: Rmult_le_pos; [apply lp | case: z.2; case: (A z.1); lra].
  rewrite sum_pair -(proj2 lp); apply: sum_ext => y; rewrite sum_bool /joint /=; ring.
have js : E joint (fun z => S z.1) = 0.
  rewrite -s0 /E sum_pair; apply: sum_ext => y; rewrite sum_bool /joint /=; ring.
have jc : success (fun z => z.2) joint = c.
  rewrite /success /E sum_pair (_ : \sum_(y : Y) _ = E p (fun y => f0 + (1 - f0 - f1) * hit A y)).
    by rewrite E_plus E_const // E_scal.
  by apply: sum_ext => y; rewrite sum_bool /joint /hit /passes /=; case: (A y); ring.
have := @group_gradient _ (fun z : prod_finType Y bool_finType => z.2) joint (fun z => S z.1) G phi lj js G0.
rewrite jc => /(_ c01) ->.
have -> : E joint (fun z => hit (fun z => z.2) z * S z.1) = (1 - f0 - f1) * E p (fun y => hit A y * S y).
  rewrite -[RHS]Rplus_0_l -(Rmult_0_r f0) -s0 -!E_scal -E_plus /E sum_pair; apply: sum_ext => y.
  by rewrite sum_bool /joint /hit /passes /=; case: (A y); ring.
by ring.
Qed.
