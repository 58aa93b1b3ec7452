// Finds files by the rules of cifar10-infer. Only names are kept; the worker opens each file later.

const SUFFIXES = /\.(jpe?g|png|webp|bmp|gif|tiff?)$/i;

/** Returns the files of an <input>, each as { path, open }. */
export function chosenFiles(files) {
  const sources = Array.from(files, (file) => ({ path: file.webkitRelativePath || file.name, open: async () => file }));
  return inOrder(sources.filter(({ path }) => !path.includes("/") || isWanted(path)));
}

/** Returns the files of a drop, folders included, each as { path, open }. Must be called in the event's handler. */
export async function droppedFiles(items) {
  const entries = Array.from(items, (item) => item.webkitGetAsEntry()).filter(Boolean);
  const sources = await Promise.all(entries.map(filesBelow));
  return inOrder(sources.flat());
}

async function filesBelow(entry) {
  if (entry.isFile) {
    return [{ path: entry.fullPath.slice(1), open: () => new Promise((done, failed) => entry.file(done, failed)) }];
  }
  const found = [];
  for (const child of await childrenOf(entry)) {
    if (child.isDirectory ? !isHidden(child.name) : isWanted(child.name)) {
      found.push(...(await filesBelow(child)));
    }
  }
  return found;
}

/** Returns all entries of a folder. The browser lists them in parts; an empty part is the last. */
async function childrenOf(folder) {
  const reader = folder.createReader();
  const children = [];
  for (let part; part?.length !== 0; children.push(...part)) {
    part = await new Promise((done, failed) => reader.readEntries(done, failed));
  }
  return children;
}

const isHidden = (name) => name.startsWith(".");

/** Returns whether the suffix is that of an image and no part of the path below the folder is hidden. */
function isWanted(path) {
  return SUFFIXES.test(path) && !path.split("/").some(isHidden);
}

/** Sorts paths: the files of each folder by name, before its subfolders. */
function inOrder(sources) {
  const key = ({ path }) => path.replace(/[^/]*$/, "\0$&");
  const keyed = sources.map((source) => [key(source), source]);
  return keyed.sort(([a], [b]) => (a < b ? -1 : Number(a > b))).map(([, source]) => source);
}
