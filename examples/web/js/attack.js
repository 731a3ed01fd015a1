// Change an image by at most eps at each pixel so that the classifier errs: FGSM and PGD in the L-infinity norm, as
// attacks.py has them, here from the image itself, without random starts: the same drawing gives the same result.

const STEPS = 20;
export const ATTACKS = { FGSM: 1, PGD: STEPS };          // name -> steps

/** The changed image, Float32Array [784], or null once stopped() is true. x: Float32Array [784] in [0, 1]; answer: what
 *  the classifier reads in it; target: the class to be read instead, or null for any but the answer.
 *  Goodfellow et al. 2015 (one step to the rim), Madry et al. 2018 (steps of 2.5 eps / steps, cut to the ball). */
export async function attack(model, x, { steps, eps, answer, target = null }, stopped) {
  const length = steps === 1 ? eps : (2.5 * eps) / steps;
  const uphill = target === null ? 1 : -1;               // away from the answer, or towards the target
  let changed = x;
  for (let step = 0; step < steps && eps > 0; step++) {
    const { loss_gradient } = await model.differentiate(changed, [target ?? answer], ["loss_gradient"]);
    changed = changed.map((value, i) => {
      const moved = value + uphill * length * Math.sign(loss_gradient[i]);
      return Math.min(Math.max(moved, x[i] - eps, 0), x[i] + eps, 1);
    });
    await new Promise((resume) => setTimeout(resume));
    if (stopped?.()) return null;
  }
  return changed;
}
