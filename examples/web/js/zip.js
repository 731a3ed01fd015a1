// Files -> one ZIP, stored as they are: PNG files are compressed already.
import { crc32 } from "./crc32.js";

const [LOCAL, CENTRAL, END] = [0x04034B50, 0x02014B50, 0x06054B50];
const VERSION = 20, UTF8 = 0x0800, STORED = 0, DATE = 0x21;          // 1 January 1980: the same files, the same bytes

/** files: [{ name, data: Uint8Array }] -> Uint8Array, the archive. */
export function zip(files) {
  const parts = [], directory = [];
  let offset = 0;
  for (const { name, data } of files) {
    const path = new TextEncoder().encode(name);
    const common = [[2, VERSION], [2, UTF8], [2, STORED], [2, 0], [2, DATE], [4, crc32(data)], [4, data.length],
                    [4, data.length], [2, path.length], [2, 0]];
    const header = littleEndian([[4, LOCAL], ...common]);
    const entry = [[4, CENTRAL], [2, VERSION], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]];
    directory.push(littleEndian(entry), path);
    parts.push(header, path, data);
    offset += header.length + path.length + data.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const n = files.length;
  const end = littleEndian([[4, END], [2, 0], [2, 0], [2, n], [2, n], [4, size], [4, offset], [2, 0]]);
  return join([...parts, ...directory, end]);
}

/** [bytes, value] pairs -> their bytes, the lowest first. */
function littleEndian(pairs) {
  return Uint8Array.from(pairs.flatMap(([n, value]) => Array.from({ length: n }, (_, i) => (value >>> (8 * i)) & 255)));
}

function join(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
