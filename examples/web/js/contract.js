// What a file must be: its inputs and outputs, and the metadata that names its classes (examples/README.md).

const CONTRACT = {                             // kind -> inputs, outputs: name -> [type, sizes behind the batch axis]
  generator: {
    inputs: { noise: ["float32", ["latent"]], label: ["int64", []], thickness: ["float32", []] },
    outputs: { image: ["uint8", [28, 28]] },
  },
  classifier: {
    inputs: { image: ["uint8", [28, 28]] },
    outputs: { logits: ["float32", ["classes"]], probabilities: ["float32", ["classes"]] },
  },
  gradient: {                                  // a classifier that also gives the gradients at its pixels
    inputs: { image: ["float32", [28, 28]], label: ["int64", []] },
    outputs: { logits: ["float32", ["classes"]], gradient: ["float32", [28, 28]],
               loss_gradient: ["float32", [28, 28]] },
  },
};

/** A file that does not keep the contract: its message is one sentence for the user. */
export class ContractError extends Error {}

/** What kind of model this is, by the names of its inputs: "generator", "classifier" or "gradient".
 *  Throws ContractError, with what was expected, where its inputs and outputs are not those of the kind. */
export function kindOf(name, session) {
  const names = session.inputMetadata.map((port) => port.name).join();
  const kind = { "noise,label,thickness": "generator", image: "classifier", "image,label": "gradient" }[names];
  if (!kind) {
    throw new ContractError(`${name} takes the inputs ${names}; a generator takes noise, label and thickness, ` +
                            "a classifier image.");
  }
  for (const direction of ["inputs", "outputs"]) {
    const ports = session[direction === "inputs" ? "inputMetadata" : "outputMetadata"];
    for (const [port, [type, sizes]] of Object.entries(CONTRACT[kind][direction])) {
      const found = ports.find((candidate) => candidate.name === port);
      const expected = `${type} [${["batch", ...sizes].join(", ")}]`;
      if (!found) throw new ContractError(`${name} lacks the output ${port}, ${expected}, of a ${kind} file.`);
      const [batch, ...rest] = found.shape ?? [];
      const fits = (size, i) => typeof size === "string" || size === rest[i];
      const same = rest.length === sizes.length && sizes.every(fits);
      if (found.type !== type || typeof batch !== "string" || !same) {
        throw new ContractError(`${name}: ${port} is ${found.type} [${found.shape}], not ${expected} with any batch.`);
      }
    }
  }
  return kind;
}

/** The list of class names in a file's metadata, or in the record (.json) that train.py writes beside it. */
export function classNames(name, metadata) {
  let classes = metadata.classes;
  if (classes === undefined) {
    throw new ContractError(`${name} does not name its classes: drop it together with the .json that lies beside it.`);
  }
  if (typeof classes === "string") {
    try { classes = JSON.parse(classes); } catch { /* it stays text, which is no list */ }
  }
  if (!Array.isArray(classes) || !classes.length || !classes.every((text) => typeof text === "string")) {
    throw new ContractError(`${name}: its metadata "classes" is no list of names.`);
  }
  return classes;
}
