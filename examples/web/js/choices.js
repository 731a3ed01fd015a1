// A row of choices in a fieldset: radio buttons, or check boxes where several may be chosen.

/** values: strings, or [value, text, lang]; changed() is called after every choice. `chosen` is chosen, or all. */
export function choices(fieldset, name, values, changed, { several = false, chosen = 0 } = {}) {
  const labels = values.map((entry, i) => {
    const [value, text, lang] = Array.isArray(entry) ? entry : [entry, entry];
    const [label, input, span] = ["label", "input", "span"].map((tag) => document.createElement(tag));
    Object.assign(input, { type: several ? "checkbox" : "radio", name, value, checked: several || i === chosen });
    Object.assign(span, { textContent: text, lang: lang ?? "" });
    input.addEventListener("change", changed);
    label.append(input, span);
    return label;
  });
  fieldset.replaceChildren(fieldset.querySelector("legend"), ...labels);
}
