// Grey pixels -> a PNG file of 8 bits.
import { crc32 } from "./crc32.js";

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const [DEPTH, GREY] = [8, 0];

/** data: Uint8Array [height * width] -> Uint8Array, the file. */
export async function encodePng(data, width, height) {
  const rows = new Uint8Array(height * (width + 1));     // a byte before each row: 0, no filter
  for (let y = 0; y < height; y++) rows.set(data.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const zlib = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const header = [...bigEndian(width), ...bigEndian(height), DEPTH, GREY, 0, 0, 0];
  const content = await new Response(zlib).arrayBuffer();
  const parts = [SIGNATURE, chunk("IHDR", header), chunk("IDAT", content), chunk("IEND", [])];
  return new Uint8Array(await new Blob(parts.map((part) => Uint8Array.from(part))).arrayBuffer());
}

function chunk(type, content) {
  const body = [...new TextEncoder().encode(type), ...new Uint8Array(content)];
  return [...bigEndian(body.length - 4), ...body, ...bigEndian(crc32(body))];
}

const bigEndian = (value) => [24, 16, 8, 0].map((shift) => (value >>> shift) & 255);
