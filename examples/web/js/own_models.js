// Files that are dropped on the page, or chosen there: models, and the records (.json) that lie beside them.
import { ContractError, modelOf } from "./models.js";

const LARGEST = 200e6;                 // bytes: train.py's are below 3 MB

/** Take files from anywhere on the page and from a file input. models(list) is called where all keep the contract,
 *  say(sentence) with what is wrong with one that does not. */
export function acceptFiles(input, models, say) {
  const page = document.documentElement;
  const take = async (files) => {
    try {
      await models(await open([...files]));
    } catch (error) {
      if (!(error instanceof ContractError)) throw error;
      say(error.message);
    }
  };
  input.addEventListener("change", async () => {
    await take(input.files);
    input.value = "";                  // the same file may be chosen again
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    page.classList.add("dropping");
  });
  for (const end of ["dragleave", "drop"]) addEventListener(end, () => page.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) take(event.dataTransfer.files);
  });
}

async function open(files) {
  const isRecord = (file) => file.name.endsWith(".json"), found = files.filter((file) => !isRecord(file));
  const records = {};
  for (const file of files.filter(isRecord)) records[stem(file)] = await parse(file);
  if (!found.length) throw new ContractError("A .json alone is no model: drop the .onnx with it.");
  return Promise.all(found.map(async (file) => {
    if (file.size > LARGEST) throw new ContractError(`${file.name} is larger than any model of train.py.`);
    return modelOf(file.name, new Uint8Array(await file.arrayBuffer()), records[stem(file)]);
  }));
}

/** "classifier-gradient.onnx" and "classifier.json" belong together. */
const stem = (file) => file.name.replace(/\.[^.]*$/, "").replace(/-gradient$/, "");

async function parse(file) {
  try {
    const { classes } = JSON.parse(await file.text());
    return { classes };
  } catch {
    throw new ContractError(`${file.name} is no JSON record of train.py.`);
  }
}

/** The set in use, with the user's models in the place of its own. */
export function withOwn(set, classifier, models) {
  const own = { ...set, id: "own", title: "Your own" }, unknownScript = { characters: undefined, lang: "" };
  const inOrder = [...models].sort((a, b) => a.kind.localeCompare(b.kind));     // a classifier before its gradient
  for (const model of inOrder) {
    if (model.kind === "generator") own.generators = { [model.name]: model, ...own.generators };
    if (model.kind === "classifier") {
      Object.assign(own, { classifier: model, gradient: null, adversarial: null }, unknownScript);
    }
    if (model.kind === "gradient") {
      own.gradient = model;
      const reader = typeof own.classifier === "string" ? classifier : own.classifier;
      if (reader.classes.join() !== model.classes.join()) {
        Object.assign(own, { classifier: model, adversarial: null }, unknownScript);
      }
    }
  }
  return own;
}
