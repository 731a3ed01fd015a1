// Keeps every file that was loaded, so that the page works offline from then on. The network comes first: a newer page
// is never hidden by an older one.
const CACHE = "glyphs";

self.addEventListener("install", (event) => event.waitUntil(keepAll().then(() => self.skipWaiting())));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && new URL(url).origin === self.location.origin) event.respondWith(networkFirst(event.request));
});

async function keepAll() {
  const cache = await caches.open(CACHE);
  const { files } = await (await fetch("files.json")).json();
  const inFolder = (file) => file.split("/").length > 2;                // models of other scripts: when they are chosen
  await cache.addAll(["./", "files.json", ...files.filter((file) => !inFolder(file))]);
}

async function networkFirst(request) {
  const cache = await caches.open(CACHE);
  try {
    const answer = await fetch(request);
    if (answer.ok) await cache.put(request, answer.clone());
    return answer;
  } catch (offline) {
    return (await cache.match(request, { ignoreSearch: true })) ?? Promise.reject(offline);
  }
}
