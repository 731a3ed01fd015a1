// The metadata of an ONNX file, which onnxruntime-web does not show: read from the protobuf itself.
//
// A ModelProto is a row of fields, each a key (number << 3 | wire type) and a value. The graph with its weights is one
// field and is stepped over; metadata_props, number 14, come after it, each a { key: 1, value: 2 } of two strings.

const METADATA_PROPS = 14;
const [VARINT, FIXED64, LENGTH_DELIMITED, FIXED32] = [0, 1, 2, 5];

/** bytes: Uint8Array of the file -> { key: text }. Throws an Error where it is no protobuf. */
export function readMetadata(bytes) {
  const metadata = {}, text = new TextDecoder();
  for (const { number, value } of fields(bytes)) {
    if (number !== METADATA_PROPS || !value) continue;
    const entry = Object.fromEntries([...fields(value)].map((field) => [field.number, text.decode(field.value)]));
    metadata[entry[1]] = entry[2] ?? "";
  }
  return metadata;
}

/** Every field of a message: { number, value }, value a Uint8Array where the field has a length. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0, factor = 1, byte;
    do {
      if (at >= bytes.length || factor > 2 ** 63) throw new Error("no protobuf");
      byte = bytes[at++];
      value += (byte & 127) * factor;          // a number is exact to 2^53: more than any length
      factor *= 128;
    } while (byte & 128);
    return value;
  };
  while (at < bytes.length) {
    const key = varint(), type = key & 7, number = Math.floor(key / 8);
    if (type === VARINT) varint();
    const size = type === LENGTH_DELIMITED ? varint() : { [VARINT]: 0, [FIXED64]: 8, [FIXED32]: 4 }[type];
    if (size === undefined || number === 0 || at + size > bytes.length) throw new Error("no protobuf");
    yield { number, value: type === LENGTH_DELIMITED ? bytes.subarray(at, at + size) : null };
    at += size;
  }
}
