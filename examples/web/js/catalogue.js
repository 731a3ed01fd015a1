// The models that come with the page: folders of saved_models/, by the names that train.py gives its files.

const DIGITS = [..."0123456789"];

/** lang: of the class names, for fonts and screen readers; characters: how classes named 0 to 9 are written. */
export const SETS = [
  { id: "mnist", title: "Digits", folder: "", lang: "en" },
  { id: "arabic", title: "Arabic digits", folder: "arabic_by_writer/", lang: "ar", characters: [..."٠١٢٣٤٥٦٧٨٩"] },
  { id: "kanji", title: "Kanji", folder: "kkanji49/", lang: "ja" },
];
const READERS = { classifier: "classifier.onnx", gradient: "classifier-gradient.onnx",
                  adversarial: "classifier-adversarial-gradient.onnx" };
const GENERATORS = { CGAN: "generator.onnx", ACGAN: "acgan.onnx", CVAE: "cvae.onnx" };

/** The files that the page would load, if they are there: paths in saved_models/. */
export const CANDIDATES = SETS.flatMap(({ folder }) =>
  [...Object.values(READERS), ...Object.values(GENERATORS)].map((name) => folder + name));

/** A set with the URLs of its files, null where there is none: { ..., classifier, gradient, adversarial, generators:
 *  { title: URL } }. `files`: the URLs that the server has. */
export function withFiles(set, files) {
  const url = (name) => (files.includes(`models/${set.folder}${name}`) ? `models/${set.folder}${name}` : null);
  const urls = (names) => Object.fromEntries(Object.entries(names).map(([key, name]) => [key, url(name)]));
  const generators = Object.fromEntries(Object.entries(urls(GENERATORS)).filter(([, found]) => found));
  return { ...set, ...urls(READERS), generators };
}

/** Class names as people read them. */
export const readable = (set, classes) =>
  set.characters && classes.every((name, k) => name === DIGITS[k]) ? set.characters : classes;
