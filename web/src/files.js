// Finds the same files as cifar10-infer. Only names are kept; a file is opened when it is classified.

const SUFFIXES = /\.(jpe?g|jpe|jfif|mpo|a?png|webp|avif|hei[cf]|bmp|dib|gif|tiff?)$/i;

/** Returns { path, open } of each image file of an <input>; open() returns a promise of the File. */
export function chosenFiles(files) {
  const sources = Array.from(files, (file) => ({ path: file.webkitRelativePath || file.name, open: async () => file }));
  return inOrder(sources.filter(({ path }) => !path.includes("/") || isWanted(path)));
}

/**
 * Returns a promise of { path, open } of each image file in dropped files and folders.
 * Call it while the drop event is handled: afterwards the browser has removed the items.
 */
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

/** Returns all entries of a folder. The browser gives them in several parts, of which the last is empty. */
async function childrenOf(folder) {
  const reader = folder.createReader();
  const children = [];
  for (let part; part?.length !== 0; children.push(...part)) {
    part = await new Promise((done, failed) => reader.readEntries(done, failed));
  }
  return children;
}

const isHidden = (name) => name.startsWith(".");

/** Whether the name of a file in a folder is that of an image, and no part of its path is hidden. */
function isWanted(path) {
  return SUFFIXES.test(path) && !path.split("/").some(isHidden);
}

/** Sorts files by path; the files of a folder come before those of its subfolders. */
function inOrder(sources) {
  const key = ({ path }) => path.replace(/[^/]*$/, "\0$&");
  const keyed = sources.map((source) => [key(source), source]);
  return keyed.sort(([a], [b]) => (a < b ? -1 : Number(a > b))).map(([, source]) => source);
}
