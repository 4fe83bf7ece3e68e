(** * The machine-checked theorems

    Each trusted proposition of [Statements.v], proved under the same name by the lemma of the file named.
    Nothing else may stand here: the audit accepts imports and theorems of this one form. *)

From NonDecoupling Require Statements.
From NonDecoupling Require
Sums Policies Foundations ChainRule Concentration SftThenRl PriceOfReward RlThenSft Landscape
Decoupling Averages AsStated LittleSft
Overpayment Verifiable Duration Alignment Estimators Penalties Leashless Schedules Alternation BestOfN Groups
GroupNormalised PerToken.

(** ** Foundations *)

Theorem F1_gibbs_inequality : Statements.F1_gibbs_inequality.
Proof. exact (fun Y p q lp lq pq => conj (Foundations.KL_ge0 lp lq pq) (Foundations.KL_eq0 lp lq
  pq)). Qed.

Theorem F2_decomposition : Statements.F2_decomposition.
Proof. exact (fun Y d p ld lp dp => conj (Foundations.CE_decomposition ld lp dp) (Foundations.CE_min
  ld lp dp)). Qed.

Theorem F3_gibbs_variational_principle : Statements.F3_gibbs_variational_principle.
Proof. exact (fun Y p ref r beta lp lr pr b0 => conj (Foundations.regularised_reward_gap r lp lr pr
  b0) (Foundations.regularised_reward_value r lr b0)). Qed.

Theorem F3_unique_maximiser : Statements.F3_unique_maximiser.
Proof. exact @Foundations.regularised_reward_max. Qed.

Theorem F5_gradient_of_sft_loss : Statements.F5_gradient_of_sft_loss.
Proof. exact @Landscape.sft_gradient. Qed.

Theorem F5_gradient_of_reward : Statements.F5_gradient_of_reward.
Proof. exact @Landscape.reward_gradient. Qed.

Theorem F5_hessian_of_sft_loss : Statements.F5_hessian_of_sft_loss.
Proof. exact @Landscape.sft_hessian. Qed.

Theorem F5_bregman : Statements.F5_bregman.
Proof. exact @Landscape.softmax_bregman. Qed.

Theorem I1_implicit_reward : Statements.I1_implicit_reward.
Proof. exact (fun Y p ref r beta lp lr pos_p pos_ref b0 => conj (@Foundations.implicit_reward Y p
  ref beta lp lr pos_p pos_ref b0) (@Foundations.implicit_reward_unique Y p ref r beta lp lr pos_p
  pos_ref b0)). Qed.

Theorem I1_reward_gain : Statements.I1_reward_gain.
Proof. exact @Foundations.implicit_reward_gain. Qed.

Theorem I1_total_variation_bound : Statements.I1_total_variation_bound.
Proof. exact @Foundations.expectation_difference_TV. Qed.

(** ** SFT, then RL *)

Theorem S1_exact_change : Statements.S1_exact_change.
Proof. exact @SftThenRl.loss_change_tilt. Qed.

Theorem S1_exact_change_any_policy : Statements.S1_exact_change_any_policy.
Proof. exact @SftThenRl.loss_change_any. Qed.

Theorem S2_coupling_gap : Statements.S2_coupling_gap.
Proof. exact @SftThenRl.coupling_gap. Qed.

Theorem S2_coupling_at_sft_optimality : Statements.S2_coupling_at_sft_optimality.
Proof. exact @SftThenRl.coupling. Qed.

Theorem S3_two_sided_size : Statements.S3_two_sided_size.
Proof. exact @SftThenRl.coupling_two_point. Qed.

Theorem S3_two_sided_size_attained : Statements.S3_two_sided_size_attained.
Proof. exact @SftThenRl.coupling_two_point_attained. Qed.

Theorem S3_small_time : Statements.S3_small_time.
Proof. exact @SftThenRl.coupling_small_time. Qed.

Theorem S3_hoeffding : Statements.S3_hoeffding.
Proof. exact @SftThenRl.coupling_hoeffding. Qed.

Theorem S3_two_sided_size_on_support : Statements.S3_two_sided_size_on_support.
Proof. exact @AsStated.coupling_two_point_on_support. Qed.

Theorem S3_hoeffding_on_support : Statements.S3_hoeffding_on_support.
Proof. exact @AsStated.coupling_hoeffding_on_support. Qed.

Theorem S4_derivative : Statements.S4_derivative.
Proof. exact @SftThenRl.loss_derivative. Qed.

Theorem S4_variance_integral : Statements.S4_variance_integral.
Proof. exact @SftThenRl.reward_gain_integral. Qed.

Theorem S4_second_derivative : Statements.S4_second_derivative.
Proof. exact @SftThenRl.gain_derivative. Qed.

Theorem S4_monotone : Statements.S4_monotone.
Proof. exact @SftThenRl.loss_monotone. Qed.

Theorem S4_strictly_monotone : Statements.S4_strictly_monotone.
Proof. exact @SftThenRl.loss_strictly_monotone_iff. Qed.

Theorem S4_gain_exceeds_cost : Statements.S4_gain_exceeds_cost.
Proof. exact @SftThenRl.reward_gain_exceeds_loss. Qed.

Theorem S5_price_of_reward : Statements.S5_price_of_reward.
Proof. exact (fun Y d r c M p l ld rM cM => @PriceOfReward.weak_duality Y d r c M ld rM cM p l).
  Qed.

Theorem S5_price_of_reward_exact : Statements.S5_price_of_reward_exact.
Proof. exact (fun Y d r c M y0 ld rM cM => @PriceOfReward.price_of_reward_exact Y d r c M ld rM cM
  y0). Qed.

Theorem S5_price_of_reward_bernoulli : Statements.S5_price_of_reward_bernoulli.
Proof. exact (fun Y d r c M p m ld rM cM => @PriceOfReward.price_of_reward_bernoulli Y d r c M ld rM
  cM p m). Qed.

Theorem S5_price_of_reward_pinsker : Statements.S5_price_of_reward_pinsker.
Proof. exact @SftThenRl.price_of_reward_pinsker. Qed.

Theorem S6_identity : Statements.S6_identity.
Proof. exact @SftThenRl.threshold_identity. Qed.

Theorem S6_lowers_iff : Statements.S6_lowers_iff.
Proof. exact @SftThenRl.threshold_iff. Qed.

Theorem S6_threshold : Statements.S6_threshold.
Proof. exact @SftThenRl.threshold_pinsker. Qed.

Theorem S6_exact_radius : Statements.S6_exact_radius.
Proof. exact @SftThenRl.threshold_exact_radius. Qed.

Theorem S6_exact_radius_exists : Statements.S6_exact_radius_exists.
Proof. exact @SftThenRl.threshold_radius_exists. Qed.

Theorem S6_exact_radius_vs_pinsker : Statements.S6_exact_radius_vs_pinsker.
Proof. exact @SftThenRl.threshold_radius_vs_pinsker. Qed.

Theorem S6_exact_radius_tight : Statements.S6_exact_radius_tight.
Proof. exact @SftThenRl.threshold_radius_tight. Qed.

Theorem S6_best_early_stop : Statements.S6_best_early_stop.
Proof. exact @SftThenRl.best_early_stop. Qed.

Theorem S6_best_early_stop_exists : Statements.S6_best_early_stop_exists.
Proof. exact @AsStated.early_stop_exists. Qed.

Theorem S7_approximate_optimum : Statements.S7_approximate_optimum.
Proof. exact @SftThenRl.approximate_optimum. Qed.

Theorem S7_approximate_optimum_bretagnolle_huber :
  Statements.S7_approximate_optimum_bretagnolle_huber.
Proof. exact @AsStated.approximate_optimum_bretagnolle_huber. Qed.

Theorem S7_approximate_optimum_dual : Statements.S7_approximate_optimum_dual.
Proof. exact @SftThenRl.approximate_optimum_dual. Qed.

Theorem S7_approximate_optimum_dual_closed : Statements.S7_approximate_optimum_dual_closed.
Proof. exact @AsStated.approximate_optimum_dual_closed. Qed.

Theorem S8_paired_change : Statements.S8_paired_change.
Proof. exact @AsStated.paired_mean_and_variance. Qed.

Theorem S8_samples : Statements.S8_samples.
Proof. exact @AsStated.samples_to_see_it. Qed.

Theorem S8_per_token : Statements.S8_per_token.
Proof. exact @AsStated.change_per_token. Qed.

(** ** RL, then SFT *)

Theorem R1_regularised_reward : Statements.R1_regularised_reward.
Proof. exact @Foundations.regularised_reward_gap. Qed.

Theorem R1_drop_bounds : Statements.R1_drop_bounds.
Proof. exact @RlThenSft.regularised_drop_bounds. Qed.

Theorem R2_three_points : Statements.R2_three_points.
Proof. exact @RlThenSft.reward_drop. Qed.

Theorem R2_lowers_iff : Statements.R2_lowers_iff.
Proof. exact @RlThenSft.reward_drop_iff. Qed.

Theorem R3_kl_ball : Statements.R3_kl_ball.
Proof. exact @RlThenSft.reward_drop_in_kl_ball. Qed.

Theorem R3_kl_ball_strict : Statements.R3_kl_ball_strict.
Proof. exact @RlThenSft.reward_drop_in_kl_ball_strict. Qed.

Theorem R4_pinsker : Statements.R4_pinsker.
Proof. exact @RlThenSft.reward_change_pinsker. Qed.

Theorem R4_bretagnolle_huber : Statements.R4_bretagnolle_huber.
Proof. exact @RlThenSft.reward_change_bretagnolle_huber. Qed.

Theorem R4_bernstein_rise : Statements.R4_bernstein_rise.
Proof. exact @RlThenSft.reward_rise_bernstein. Qed.

Theorem R4_bernstein_drop : Statements.R4_bernstein_drop.
Proof. exact @RlThenSft.reward_drop_bernstein. Qed.

Theorem R4_pinsker_any_law : Statements.R4_pinsker_any_law.
Proof. exact @AsStated.change_pinsker. Qed.

Theorem R4_bretagnolle_huber_any_law : Statements.R4_bretagnolle_huber_any_law.
Proof. exact @AsStated.change_bretagnolle_huber. Qed.

Theorem R4_bernstein_rise_any_law : Statements.R4_bernstein_rise_any_law.
Proof. exact @AsStated.rise_bernstein. Qed.

Theorem R4_bernstein_drop_any_law : Statements.R4_bernstein_drop_any_law.
Proof. exact @AsStated.drop_bernstein. Qed.

Theorem R4_extremes : Statements.R4_extremes.
Proof. exact @RlThenSft.reward_extremes. Qed.

Theorem R5_level_sets_keep_reward : Statements.R5_level_sets_keep_reward.
Proof. exact @RlThenSft.level_sets_keep_reward. Qed.

Theorem R5_some_policy_beats_tilt : Statements.R5_some_policy_beats_tilt.
Proof. exact @RlThenSft.some_policy_beats_tilt. Qed.

Theorem R6_cycle_law : Statements.R6_cycle_law.
Proof. exact @SftThenRl.cycle_gain. Qed.

Theorem R7_reward_along_mixture : Statements.R7_reward_along_mixture.
Proof. exact @RlThenSft.reward_mixture. Qed.

Theorem R7_regularised_reward_along_mixture : Statements.R7_regularised_reward_along_mixture.
Proof. exact @RlThenSft.regularised_reward_along_mixture. Qed.

Theorem R7_first_sft_step : Statements.R7_first_sft_step.
Proof. exact @Landscape.first_sft_step. Qed.

Theorem R8_between_two_policies : Statements.R8_between_two_policies.
Proof. exact @RlThenSft.regularised_drop_between. Qed.

Theorem R8_drop_iff : Statements.R8_drop_iff.
Proof. exact @RlThenSft.regularised_drop_between_iff. Qed.

Theorem R8_suboptimal_rl : Statements.R8_suboptimal_rl.
Proof. exact @RlThenSft.regularised_drop_suboptimal. Qed.

(** ** Landscape *)

Theorem P1_pl_sft_loss : Statements.P1_pl_sft_loss.
Proof. exact @Landscape.pl_sft_loss. Qed.

Theorem P1_log_form : Statements.P1_log_form.
Proof. exact @AsStated.excess_below_log. Qed.

Theorem P2_sandwich : Statements.P2_sandwich.
Proof. exact @Landscape.logit_sandwich. Qed.

Theorem P2_coupling_sandwich : Statements.P2_coupling_sandwich.
Proof. exact @Landscape.coupling_sandwich. Qed.

Theorem P3_gradient : Statements.P3_gradient.
Proof. exact @Landscape.regularised_reward_gradient. Qed.

Theorem P3_pl_regularised_reward : Statements.P3_pl_regularised_reward.
Proof. exact @Landscape.pl_regularised_reward. Qed.

Theorem P3_drop_from_tilt : Statements.P3_drop_from_tilt.
Proof. exact @Landscape.regularised_drop_lower. Qed.

Theorem P4_step_identity : Statements.P4_step_identity.
Proof. exact @Landscape.step_identity. Qed.

Theorem P4_step_improves_iff : Statements.P4_step_improves_iff.
Proof. exact @Landscape.step_improves_iff. Qed.

Theorem P4_sufficient : Statements.P4_sufficient.
Proof. exact @Landscape.step_improves_if. Qed.

Theorem P4_threshold_gradient : Statements.P4_threshold_gradient.
Proof. exact @AsStated.step_improves_from_gradient. Qed.

Theorem P4_threshold_excess : Statements.P4_threshold_excess.
Proof. exact @AsStated.step_improves_from_excess. Qed.

Theorem P5_slope : Statements.P5_slope.
Proof. exact @Duration.utility_slope. Qed.

Theorem P5_maximiser_exists : Statements.P5_maximiser_exists.
Proof. exact @Duration.maximiser_exists. Qed.

Theorem P5_maximiser_stationary : Statements.P5_maximiser_stationary.
Proof. exact @Duration.maximiser_stationary. Qed.

Theorem P5_stationary_time : Statements.P5_stationary_time.
Proof. exact @Duration.stationary_time. Qed.

Theorem P5_stationary_reward : Statements.P5_stationary_reward.
Proof. exact @Duration.stationary_reward. Qed.

Theorem P5_surrogate : Statements.P5_surrogate.
Proof. exact @Duration.surrogate_maximum. Qed.

Theorem P6_inside_and_outside : Statements.P6_inside_and_outside.
Proof. exact @Alignment.cosine_inside_and_outside. Qed.

(** ** Joint training *)

Theorem J1_joint_optimum_exists : Statements.J1_joint_optimum_exists.
Proof. exact @Decoupling.joint_exists. Qed.

Theorem J1_unique_maximiser : Statements.J1_unique_maximiser.
Proof. exact @Decoupling.joint_unique. Qed.

Theorem J1_closed_form : Statements.J1_closed_form.
Proof. exact @AsStated.joint_closed_form. Qed.

Theorem J1_multiplier : Statements.J1_multiplier.
Proof. exact @AsStated.joint_multiplier. Qed.

Theorem J2_exact_gap : Statements.J2_exact_gap.
Proof. exact @Decoupling.joint_gap. Qed.

Theorem J2_no_free_order : Statements.J2_no_free_order.
Proof. exact @Decoupling.joint_optimal. Qed.

Theorem J3_bounds : Statements.J3_bounds.
Proof. exact @LittleSft.joint_bounds. Qed.

Theorem J3_exact : Statements.J3_exact.
Proof. exact (fun Y joint d ref r beta lambda mu lj ld lr ref0 j0 b0 l0 foc => conj
  (LittleSft.joint_saving_identity lj ld lr ref0 j0 b0 l0 foc) (LittleSft.joint_cost_identity r lj
  lr ref0 b0)). Qed.

Theorem J3_sharper : Statements.J3_sharper.
Proof. exact (fun Y joint d ref r beta lambda mu lj ld lr ref0 j0 b0 l0 foc W wW => conj
  (LittleSft.joint_cost_lower lj ld lr ref0 j0 b0 l0 foc wW) (LittleSft.joint_cost_below_half lj ld
  lr ref0 j0 b0 l0 foc)). Qed.

Theorem J3_expansions : Statements.J3_expansions.
Proof. exact @LittleSft.joint_expansions. Qed.

(** ** Sequences *)

Theorem F4_chain_rule_two_steps : Statements.F4_chain_rule_two_steps.
Proof. exact @ChainRule.chain_rule_two_steps. Qed.

Theorem F4_chain_rule : Statements.F4_chain_rule.
Proof. exact @ChainRule.chain_rule. Qed.

(** ** Worlds that refute "SFT after RL always lowers the raw reward" *)

Theorem R5_constant_reward_refutes : Statements.R5_constant_reward_refutes.
Proof. exact RlThenSft.constant_reward_no_drop. Qed.

Theorem R5_reward_can_rise : Statements.R5_reward_can_rise.
Proof. exact RlThenSft.reward_can_rise. Qed.

Theorem R7_first_step_can_raise_reward : Statements.R7_first_step_can_raise_reward.
Proof. exact Landscape.first_sft_step_can_raise_reward. Qed.

(** ** Averages over prompts *)

Theorem D1_exact_decoupling : Statements.D1_exact_decoupling.
Proof. exact @Decoupling.decoupling_iff. Qed.

Theorem D1_rl_optimum : Statements.D1_rl_optimum.
Proof. exact @Decoupling.rl_optimum_is_optimal. Qed.

Theorem D1_disjoint_prompts : Statements.D1_disjoint_prompts.
Proof. exact @Decoupling.disjoint_prompts_decouple. Qed.

Theorem F3_averaged : Statements.F3_averaged.
Proof. exact (fun X Y q p ref r beta lq b0 lp lr pr => conj (@Averages.avg_regularised_reward_gap X
  Y q beta b0 p ref r lp lr pr) (@Averages.avg_regularised_reward_value X Y q beta b0 ref r lr)).
  Qed.

Theorem F3_unique_maximiser_averaged : Statements.F3_unique_maximiser_averaged.
Proof. exact (fun X Y q p ref r beta lq b0 => @Averages.avg_regularised_reward_max X Y q lq beta b0
  p ref r). Qed.

Theorem S1_exact_change_averaged : Statements.S1_exact_change_averaged.
Proof. exact (fun X Y q d ref r beta => @Averages.avg_loss_change_tilt X Y q beta d ref r). Qed.

Theorem S2_coupling_gap_averaged : Statements.S2_coupling_gap_averaged.
Proof. exact (fun X Y q d r beta lq => @Averages.avg_coupling_gap X Y q lq beta d r). Qed.

Theorem S2_coupling_at_sft_optimality_averaged : Statements.S2_coupling_at_sft_optimality_averaged.
Proof. exact (fun X Y q d r beta lq b0 => @Averages.avg_coupling X Y q lq beta b0 d r). Qed.

Theorem S3_hoeffding_averaged : Statements.S3_hoeffding_averaged.
Proof. exact (fun X Y q d r m w beta lq b0 => @Averages.avg_coupling_hoeffding X Y q lq beta b0 d r
  m w). Qed.

Theorem S4_monotone_averaged : Statements.S4_monotone_averaged.
Proof. exact (fun X Y q d r s t lq => @Averages.avg_loss_monotone X Y q lq d r s t). Qed.

Theorem S5_price_of_reward_pinsker_averaged : Statements.S5_price_of_reward_pinsker_averaged.
Proof. exact (fun X Y q d p r m w lq => @Averages.avg_price_of_reward_pinsker X Y q lq d p r m w).
  Qed.

Theorem S5_price_of_reward_averaged : Statements.S5_price_of_reward_averaged.
Proof. exact (fun X Y q d p r c M l lq => @Averages.avg_price_of_reward X Y q lq d p r c M l). Qed.

Theorem S6_identity_averaged : Statements.S6_identity_averaged.
Proof. exact (fun X Y q d ref r beta b0 => @Averages.avg_threshold_identity X Y q beta b0 d ref r).
  Qed.

Theorem S6_lowers_iff_averaged : Statements.S6_lowers_iff_averaged.
Proof. exact (fun X Y q d ref r beta b0 => @Averages.avg_threshold_iff X Y q beta b0 d ref r). Qed.

Theorem S6_threshold_averaged : Statements.S6_threshold_averaged.
Proof. exact (fun X Y q d ref r m w beta lq b0 => @Averages.avg_threshold_pinsker X Y q lq beta b0 d
  ref r m w). Qed.

Theorem S6_exact_radius_averaged : Statements.S6_exact_radius_averaged.
Proof. exact (fun X Y q d ref r beta t lq b0 => @Averages.avg_threshold_exact_radius X Y q lq beta
  b0 d ref r t). Qed.

Theorem S7_approximate_optimum_dual_averaged : Statements.S7_approximate_optimum_dual_averaged.
Proof. exact (fun X Y q d p ref r c M l eps lq => @Averages.avg_approximate_optimum_dual X Y q lq d
  p ref r c M l eps). Qed.

Theorem S7_approximate_optimum_averaged : Statements.S7_approximate_optimum_averaged.
Proof. exact (fun X Y q d p ref r m w eps lq => @Averages.avg_approximate_optimum X Y q lq d p ref r
  m w eps). Qed.

Theorem R1_drop_bounds_averaged : Statements.R1_drop_bounds_averaged.
Proof. exact (fun X Y q p ref r a A beta _ b0 => @Averages.avg_regularised_drop_bounds X Y q beta b0
  p ref r a A). Qed.

Theorem R2_three_points_averaged : Statements.R2_three_points_averaged.
Proof. exact (fun X Y q p ref r beta b0 => @Averages.avg_reward_drop X Y q beta b0 p ref r). Qed.

Theorem R2_lowers_iff_averaged : Statements.R2_lowers_iff_averaged.
Proof. exact (fun X Y q p ref r beta b0 => @Averages.avg_reward_drop_iff X Y q beta b0 p ref r).
  Qed.

Theorem R3_kl_ball_averaged : Statements.R3_kl_ball_averaged.
Proof. exact (fun X Y q p ref r beta lq b0 => @Averages.avg_reward_drop_in_kl_ball X Y q lq beta b0
  p ref r). Qed.

Theorem R4_pinsker_averaged : Statements.R4_pinsker_averaged.
Proof. exact (fun X Y q p ref r m w beta lq => @Averages.avg_reward_change_pinsker X Y q lq beta p
  ref r m w). Qed.

Theorem R4_bretagnolle_huber_averaged : Statements.R4_bretagnolle_huber_averaged.
Proof. exact (fun X Y q p ref r m w beta lq => @Averages.avg_reward_change_bretagnolle_huber X Y q
  lq beta p ref r m w). Qed.

Theorem R6_cycle_law_averaged : Statements.R6_cycle_law_averaged.
Proof. exact (fun X Y q d r beta b0 => @Averages.avg_cycle_gain X Y q beta b0 d r). Qed.

Theorem R8_between_two_policies_averaged : Statements.R8_between_two_policies_averaged.
Proof. exact (fun X Y q p1 p2 ref r beta _ b0 => @Averages.avg_regularised_drop_between X Y q beta
  b0 p1 p2 ref r). Qed.

Theorem R8_suboptimal_rl_averaged : Statements.R8_suboptimal_rl_averaged.
Proof. exact (fun X Y q p1 p2 ref r beta delta _ b0 => @Averages.avg_regularised_drop_suboptimal X Y
  q beta b0 p1 p2 ref r delta). Qed.

Theorem P1_pl_sft_loss_averaged : Statements.P1_pl_sft_loss_averaged.
Proof. exact @Averages.avg_pl_sft_loss. Qed.

Theorem J2_no_free_order_averaged : Statements.J2_no_free_order_averaged.
Proof. exact (fun X Y q p joint d ref r mu lambda beta lq b0 => @Averages.avg_no_free_order X Y q lq
  beta b0 p joint d ref r mu lambda). Qed.

(** ** Second chapter: what trainers converge to, and what it costs *)

Theorem S9_overpayment_identity : Statements.S9_overpayment_identity.
Proof. exact @Overpayment.overpayment. Qed.

Theorem S9_zero_iff_frontier : Statements.S9_zero_iff_frontier.
Proof. exact @Overpayment.overpayment_frontier. Qed.

Theorem S10_identity : Statements.S10_identity.
Proof. exact @Overpayment.run_proves. Qed.

Theorem S10_lower_bound : Statements.S10_lower_bound.
Proof. exact @Overpayment.run_lower_bound. Qed.

Theorem S10_affine_minorant : Statements.S10_affine_minorant.
Proof. exact @Overpayment.run_minorant. Qed.

Theorem S10_convex : Statements.S10_convex.
Proof. exact @Overpayment.loss_change_convex. Qed.

Theorem S10_run_raises_loss : Statements.S10_run_raises_loss.
Proof. exact @Overpayment.run_raises_loss. Qed.

Theorem V1_logit : Statements.V1_logit.
Proof. exact @Verifiable.logit_tilt. Qed.

Theorem V1_beta_for_target : Statements.V1_beta_for_target.
Proof. exact @Verifiable.beta_for_target. Qed.

Theorem V1_cost_is_price : Statements.V1_cost_is_price.
Proof. exact @Verifiable.verifiable_cost. Qed.

Theorem V1_chain_rule : Statements.V1_chain_rule.
Proof. exact @Verifiable.KL_conditional. Qed.

Theorem V1_least_KL : Statements.V1_least_KL.
Proof. exact @Verifiable.least_KL_at_success. Qed.

Theorem V1_least_KL_attained : Statements.V1_least_KL_attained.
Proof. exact @Verifiable.at_success_law. Qed.

Theorem V1_tilt_has_least_KL : Statements.V1_tilt_has_least_KL.
Proof. exact @Verifiable.tilt_least_KL. Qed.

Theorem V1_pass_at_k : Statements.V1_pass_at_k.
Proof. exact @Verifiable.pass_at_k_rises. Qed.

Theorem G1_covariance : Statements.G1_covariance.
Proof. exact @Verifiable.gold_derivative. Qed.

Theorem G1_gold_rises : Statements.G1_gold_rises.
Proof. exact @Verifiable.gold_rises. Qed.

Theorem G1_gold_gain : Statements.G1_gold_gain.
Proof. exact @Verifiable.gold_gain. Qed.

Theorem G1_sharper : Statements.G1_sharper.
Proof. exact @Verifiable.coin_kl_le_KL. Qed.

Theorem T1_gradient_of_expectation : Statements.T1_gradient_of_expectation.
Proof. exact (fun Y theta g ref f f' inh pos => @Estimators.expectation_gradient Y ref theta g inh pos f f'). Qed.

Theorem T1_k1_in_loss : Statements.T1_k1_in_loss.
Proof. exact (fun Y theta g ref => (@Estimators.k1_in_loss Y ref theta g)). Qed.

Theorem T1_k2_in_loss : Statements.T1_k2_in_loss.
Proof. exact (fun Y theta g ref => (@Estimators.k2_in_loss Y ref theta g)). Qed.

Theorem T1_k3_in_loss : Statements.T1_k3_in_loss.
Proof. exact (fun Y theta g ref => (@Estimators.k3_in_loss Y ref theta g)). Qed.

Theorem T1_k1_in_reward : Statements.T1_k1_in_reward.
Proof. exact (fun Y theta g ref => (@Estimators.k1_in_reward Y ref theta g)). Qed.

Theorem T1_k2_in_reward : Statements.T1_k2_in_reward.
Proof. exact (fun Y theta g ref => (@Estimators.k2_in_reward Y ref theta g)). Qed.

Theorem T1_k3_in_reward : Statements.T1_k3_in_reward.
Proof. exact (fun Y theta g ref => (@Estimators.k3_in_reward Y ref theta g)). Qed.

Theorem T1_any_k_times_ratio : Statements.T1_any_k_times_ratio.
Proof. exact (fun Y theta g ref f f' inh pos => @Estimators.any_k_times_ratio Y ref theta g inh pos f f'). Qed.

Theorem T2_mu_exists : Statements.T2_mu_exists.
Proof. exact @Penalties.forward_mu_exists. Qed.

Theorem T2_identity : Statements.T2_identity.
Proof. exact (fun Y p ref r beta mu lp lr pos pos' b0 rm tot => conj (Penalties.forward_optimum_reward lr rm tot) (Penalties.forward_gap lp lr pos pos' b0 rm tot)). Qed.

Theorem T2_unique_maximiser : Statements.T2_unique_maximiser.
Proof. exact @Penalties.forward_unique. Qed.

Theorem T2_on_the_frontier : Statements.T2_on_the_frontier.
Proof. exact @Penalties.forward_optimum_on_frontier. Qed.

Theorem T2_every_reward : Statements.T2_every_reward.
Proof. exact @Penalties.forward_every_reward. Qed.

Theorem T2_k3_in_reward_unbounded : Statements.T2_k3_in_reward_unbounded.
Proof. exact @Penalties.k3_in_reward_unbounded. Qed.

Theorem T2_k3_in_reward_flat : Statements.T2_k3_in_reward_flat.
Proof. exact @Penalties.k3_in_reward_flat. Qed.

Theorem T10_path_solves_flow : Statements.T10_path_solves_flow.
Proof. exact (fun Y ref r sigma tau a b t y pos => @Leashless.path_solves_flow Y ref r pos sigma tau a b t y). Qed.

Theorem T10_flow_on_path : Statements.T10_flow_on_path.
Proof. exact (fun Y ref r theta a b t pos => @Leashless.flow_on_path Y ref r pos theta a b t). Qed.

Theorem T10_sigma_unique : Statements.T10_sigma_unique.
Proof. exact (fun Y ref r sigma sigma' tau pos => @Leashless.path_sigma_unique Y ref r pos sigma sigma' tau). Qed.

Theorem T10_uniform_ref_frontier : Statements.T10_uniform_ref_frontier.
Proof. exact (fun Y ref r sigma tau k p' pos => @Leashless.path_from_uniform Y ref r pos sigma tau k p'). Qed.

Theorem T11_noisy_verifier : Statements.T11_noisy_verifier.
Proof. exact @Schedules.noisy_verifier. Qed.

Theorem T11_entropy_bonus : Statements.T11_entropy_bonus.
Proof. exact @Schedules.entropy_bonus. Qed.

Theorem T11_entropy_bonus_cost : Statements.T11_entropy_bonus_cost.
Proof. exact @Schedules.entropy_bonus_cost. Qed.

Theorem T5_tilts_compose : Statements.T5_tilts_compose.
Proof. exact @Schedules.tilts_compose. Qed.

Theorem T5_runs_in_a_row : Statements.T5_runs_in_a_row.
Proof. exact @Schedules.tilts_in_a_row. Qed.

Theorem T5_geometric_mixture : Statements.T5_geometric_mixture.
Proof. exact @Schedules.geometric_mixture_is_tilt. Qed.

Theorem T5_temperature : Statements.T5_temperature.
Proof. exact @Schedules.temperature_is_tilt. Qed.

Theorem T6_logit_contraction : Statements.T6_logit_contraction.
Proof. exact @Alternation.logit_alternation. Qed.

Theorem T6_logit_limits : Statements.T6_logit_limits.
Proof. exact @Alternation.logit_alternation_limits. Qed.

Theorem T6_mixture_fixed_point : Statements.T6_mixture_fixed_point.
Proof. exact @Alternation.mixture_fixed_point. Qed.

Theorem T6_mixture_lambda_exists : Statements.T6_mixture_lambda_exists.
Proof. exact @Alternation.mixture_lambda_exists. Qed.

Theorem T6_mixture_lambda_unique : Statements.T6_mixture_lambda_unique.
Proof. exact @Alternation.mixture_lambda_unique. Qed.

Theorem T6_mixture_limit : Statements.T6_mixture_limit.
Proof. exact @Alternation.mixture_limit_facts. Qed.

Theorem T6_mixture_rate : Statements.T6_mixture_rate.
Proof. exact @Alternation.mixture_rate. Qed.

Theorem T6_mixture_rate_bound : Statements.T6_mixture_rate_bound.
Proof. exact @Alternation.mixture_rate_bound. Qed.

Theorem T8_replay_reward : Statements.T8_replay_reward.
Proof. exact @Schedules.replay_reward. Qed.

Theorem T8_replay_bound : Statements.T8_replay_bound.
Proof. exact @Schedules.replay_bound. Qed.

Theorem T9_gradient : Statements.T9_gradient.
Proof. exact @Schedules.weighted_sft_gradient. Qed.

Theorem T9_optimum : Statements.T9_optimum.
Proof. exact @Schedules.weighted_sft_optimum. Qed.

Theorem T9_reweighted_data : Statements.T9_reweighted_data.
Proof. exact @Schedules.reweighted_sft. Qed.

Theorem T9_frontier_weights : Statements.T9_frontier_weights.
Proof. exact @Schedules.frontier_weights. Qed.

Theorem T9_filtered_sft_is_tilt : Statements.T9_filtered_sft_is_tilt.
Proof. exact @Schedules.filtered_sft_is_tilt. Qed.

Theorem T1_baselines : Statements.T1_baselines.
Proof. exact @Groups.baselines. Qed.

Theorem T4_expected_gradient : Statements.T4_expected_gradient.
Proof. exact @Groups.group_gradient. Qed.

Theorem T4_stationary : Statements.T4_stationary.
Proof. exact @GroupNormalised.stationary_iff_tilt. Qed.

Theorem T2_tilt_pays_more_iff : Statements.T2_tilt_pays_more_iff.
Proof. exact @Penalties.tilt_pays_more_iff. Qed.

Theorem T2_k3_in_reward_local_maximum : Statements.T2_k3_in_reward_local_maximum.
Proof. exact @Penalties.k3_in_reward_local_max. Qed.

Theorem T6_mixture_converges : Statements.T6_mixture_converges.
Proof. exact @Alternation.mixture_converges. Qed.

Theorem S9_terms_nonnegative : Statements.S9_terms_nonnegative.
Proof. exact @Overpayment.overpayment_terms_ge0. Qed.

Theorem T10_sigma_exists : Statements.T10_sigma_exists.
Proof. exact (fun Y ref r tau pos => @Leashless.path_sigma_exists Y ref r pos tau). Qed.

Theorem T6_rl_flow : Statements.T6_rl_flow.
Proof. exact @Alternation.rl_flow. Qed.

Theorem T6_sft_flow : Statements.T6_sft_flow.
Proof. exact @Alternation.sft_flow. Qed.

Theorem T6_reverse_sft_flow : Statements.T6_reverse_sft_flow.
Proof. exact @Alternation.reverse_sft_flow. Qed.

Theorem S9_overpayment_identity_averaged : Statements.S9_overpayment_identity_averaged.
Proof. exact @Overpayment.avg_overpayment. Qed.

Theorem R9_constant_reward : Statements.R9_constant_reward.
Proof. exact Overpayment.refuted_constant. Qed.

Theorem R9_reward_rises : Statements.R9_reward_rises.
Proof. exact Overpayment.refuted_rise. Qed.

Theorem R9_level_sets : Statements.R9_level_sets.
Proof. exact Overpayment.refuted_level_set. Qed.

Theorem V1_razor_refuted : Statements.V1_razor_refuted.
Proof. exact Verifiable.razor_refuted. Qed.

Theorem T2_k3_in_reward_two_responses : Statements.T2_k3_in_reward_two_responses.
Proof. exact @Penalties.k3_in_reward_two_responses. Qed.

Theorem T7_draws : Statements.T7_draws.
Proof. exact @BestOfN.best_of_draws. Qed.

Theorem T7_bounds : Statements.T7_bounds.
Proof. exact @BestOfN.best_of_bounds. Qed.

Theorem T7_best_of_best : Statements.T7_best_of_best.
Proof. exact @BestOfN.best_of_best_of. Qed.

Theorem T7_success : Statements.T7_success.
Proof. exact @BestOfN.best_of_success. Qed.

Theorem T4_factor_bounds : Statements.T4_factor_bounds.
Proof. exact (fun G c g2 => @GroupNormalised.group_factor_bounds G g2 c). Qed.

Theorem T4_root_exists : Statements.T4_root_exists.
Proof. exact (fun G a beta g2 => @GroupNormalised.group_stationary_exists G g2 a beta). Qed.

Theorem T4_root_bounds : Statements.T4_root_bounds.
Proof. exact (fun G a beta c g2 => @GroupNormalised.group_stationary_bounds G g2 a beta c). Qed.

Theorem T4_large_group_factor : Statements.T4_large_group_factor.
Proof. exact @GroupNormalised.spread. Qed.

Theorem T4_critical_exists : Statements.T4_critical_exists.
Proof. exact @GroupNormalised.critical_exists. Qed.

Theorem T4_critical_beta : Statements.T4_critical_beta.
Proof. exact @GroupNormalised.critical_beta. Qed.

Theorem T3_k2_is_tilt_of_hard_value : Statements.T3_k2_is_tilt_of_hard_value.
Proof. exact (fun V T r beta ref p h b0 => @PerToken.stationary_k2_tilt V T r beta b0 ref p h). Qed.

Theorem T3_k3_form : Statements.T3_k3_form.
Proof. exact (fun V T r beta ref p h b0 => @PerToken.stationary_k3_forward V T r beta b0 ref p h). Qed.

Theorem T3_k2_unique : Statements.T3_k2_unique.
Proof. exact (fun V T r beta ref p p' b0 => @PerToken.per_token_k2_unique V T r beta b0 ref p p'). Qed.

Theorem T3_k3_unique : Statements.T3_k3_unique.
Proof. exact (fun V T r beta ref p p' b0 => @PerToken.per_token_k3_unique V T r beta b0 ref p p'). Qed.

Theorem T3_k2_exists : Statements.T3_k2_exists.
Proof. exact (fun V T r beta ref b0 fr => ex_intro _ (PerToken.k2_policy T r beta ref) (@PerToken.per_token_k2_exists V T r beta b0 ref fr)). Qed.

Theorem T4_forward_leash_root : Statements.T4_forward_leash_root.
Proof. exact (fun G a beta g2 => @GroupNormalised.group_forward_root G g2 a beta). Qed.

Theorem T11_noisy_groups : Statements.T11_noisy_groups.
Proof. exact @Groups.noisy_group_gradient. Qed.

Theorem S10_identity_averaged : Statements.S10_identity_averaged.
Proof. exact @Overpayment.avg_run_proves. Qed.

Theorem T2_k3_in_reward_threshold : Statements.T2_k3_in_reward_threshold.
Proof. exact @Penalties.k3_in_reward_threshold. Qed.
