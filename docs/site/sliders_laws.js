// The laws that sliders.js draws: S2, S5, T2 and T6 on lists of log-probabilities, losses in nats. The formulas are
// those of nondecoupling.bounds, and tests/test_sliders.py holds the two together.

globalThis.nondecoupling = (() => {
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const average = (logP, values) => sum(values.map((value, y) => Math.exp(logP[y]) * value));
  const max = (values) => Math.max(...values);

  function logSumExp(values) {
    const top = max(values);
    return top + Math.log(sum(values.map((value) => Math.exp(value - top))));
  }

  function normalised(weights) {
    const logZ = logSumExp(weights);
    return weights.map((weight) => weight - logZ);
  }

  // KL(p||q) as E_p[z - 1 - log z], z = q/p: a sum without cancellation.
  function kl(logP, logQ) {
    return average(logP, logP.map((log, y) => Math.expm1(logQ[y] - log) - (logQ[y] - log)));
  }

  // The root of a falling function with f(low) >= 0 >= f(high), to the last bit; it never leaves [low, high].
  function bisect(falling, low, high) {
    for (;;) {
      const middle = low + (high - low) / 2;
      if (!(low < middle && middle < high)) return middle;
      if (falling(middle) > 0) low = middle;
      else high = middle;
    }
  }

  const belowBest = (reward) => reward.map((value) => max(reward) - value);

  function logMassOfBest(logD, reward) {
    return logSumExp(logD.filter((_, y) => reward[y] === max(reward)));
  }

  // S2: the optimum of RL from d, p = d e^{r/beta}/Z.
  function tilt(logD, reward, beta) {
    return normalised(logD.map((log, y) => log + reward[y] / beta));
  }

  // S2: log E_d e^{r/beta} - E_d r/beta, with the rewards measured from their average.
  function couplingGap(logD, reward, beta) {
    const mean = average(logD, reward);
    return logSumExp(logD.map((log, y) => log + (reward[y] - mean) / beta));
  }

  // S5: d/(tau - r), tau = max r + e^logRoom, before it is normalised.
  function frontierWeights(logD, reward, logRoom) {
    return belowBest(reward).map((gap, y) => logD[y] - Math.log(Math.exp(logRoom) + gap));
  }

  function frontierPolicy(logD, reward, logRoom) {
    return normalised(frontierWeights(logD, reward, logRoom));
  }

  // S5: the least SFT loss above H(d) of any policy whose reward is this far below max r.
  function leastLoss(logD, reward, distance) {
    const gaps = belowBest(reward);
    const atData = average(logD, gaps);
    if (distance >= atData) return 0;
    if (distance <= 0) return Infinity;
    const best = Math.exp(logMassOfBest(logD, reward));
    const others = sum(logD.map((log, y) => (gaps[y] > 0 ? Math.exp(log) : 0)));
    const low = Math.log(distance) + Math.log(best / others);
    const high = Math.log(distance) + Math.log(max(gaps) / (atData - distance));
    const missing = (u) => distance - average(frontierPolicy(logD, reward, u), gaps);
    return kl(logD, frontierPolicy(logD, reward, bisect(missing, low, high)));
  }

  function priceOfReward(logD, reward, target) {
    return leastLoss(logD, reward, max(reward) - target);
  }

  // The distance to max r is averaged itself: J(p) may round to max r.
  function priceOfPolicy(logD, logP, reward) {
    return leastLoss(logD, reward, average(logP, belowBest(reward)));
  }

  // T2: beta ref/(mu - r), the end of k3 in the loss.
  function forwardLeashOptimum(logRef, reward, beta) {
    const high = Math.log(beta);
    const surplus = (u) => high + logSumExp(frontierWeights(logRef, reward, u));
    const root = bisect(surplus, high + logMassOfBest(logRef, reward), high);
    return frontierPolicy(logRef, reward, root);
  }

  // T6: eta d/(1 - k e^x), x = s (r - max r), after SFT; times e^{phase x}, normalised, during the next RL.
  const PHASES = { sft: 0, rl: 1, "half-rl": 0.5 };

  function alternationLimit(logD, reward, rlTime, sftShare, after) {
    const x = belowBest(reward).map((gap) => -rlTime * gap);
    // log(1 - k e^x) as a sum of positive terms; the slack is 1 - k.
    const logHeld = (logSlack) =>
      x.map((v) => (v < 0 ? Math.log(Math.exp(logSlack + v) - Math.expm1(v)) : logSlack));
    const at = (logSlack, phase) =>
      normalised(logHeld(logSlack).map((held, y) => logD[y] + phase * x[y] - held));
    // eta E_d 1/(1 - k e^x) = 1 as E (1 - k e^x - eta) = 0, in whichever form keeps small terms.
    function surplus(logSlack) {
      const held = logHeld(logSlack).map((log, y) =>
        sftShare > 0.5
          ? 1 - sftShare + Math.expm1(logSlack) * Math.exp(x[y])
          : Math.exp(log) - sftShare,
      );
      return -average(at(logSlack, 0), held);
    }
    const high = Math.log(sftShare);
    return at(bisect(surplus, high + logMassOfBest(logD, reward), high), PHASES[after]);
  }

  return {
    alternationLimit, average, couplingGap, forwardLeashOptimum, frontierPolicy, kl, logSumExp,
    normalised, priceOfPolicy, priceOfReward, tilt,
  };
})();
