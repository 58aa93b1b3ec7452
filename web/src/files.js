// Which files are classified: those of cifar10-infer. Only names are kept; a file is opened when its turn comes.

const SUFFIXES = /\.(jpe?g|png|webp|bmp|gif|tiff?)$/i;

/** The files of an <input>: { path, open } of each. */
export function chosenFiles(files) {
  const sources = Array.from(files, (file) => ({ path: file.webkitRelativePath || file.name, open: async () => file }));
  return inOrder(sources.filter(({ path }) => !path.includes("/") || isWanted(path)));
}

/** The files and folders of a drop, likewise; to be called while the event is handled. */
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

/** All that is in a folder, which is told in parts, the last of them empty. */
async function childrenOf(folder) {
  const reader = folder.createReader();
  const children = [];
  for (let part; part?.length !== 0; children.push(...part)) {
    part = await new Promise((done, failed) => reader.readEntries(done, failed));
  }
  return children;
}

const isHidden = (name) => name.startsWith(".");

/** Whether a file in a folder is an image by its name, and nothing on its path below that folder is hidden. */
function isWanted(path) {
  return SUFFIXES.test(path) && !path.split("/").some(isHidden);
}

/** The files of each folder by name and before its subfolders. */
function inOrder(sources) {
  const key = ({ path }) => path.replace(/[^/]*$/, "\0$&");
  const keyed = sources.map((source) => [key(source), source]);
  return keyed.sort(([a], [b]) => (a < b ? -1 : Number(a > b))).map(([, source]) => source);
}
