// Makes renditions with sharp, as its documentation does: from the file, once for each. A line of JSON asks for one
// part of them, a line answers when it is done.
const readline = require("node:readline");
const path = require("node:path");
const sharp = require("sharp");

const SQUARES = { small: 100, thumbnail: 150, medium: 400, large: 800 };

const upright = (picture) => sharp(picture).autoOrient();

const parts = {
  async squares(picture, folder) {
    for (const [name, side] of Object.entries(SQUARES)) {
      await upright(picture)
        .resize(side, side, { fit: "cover" })
        .jpeg({ quality: 80 })
        .toFile(path.join(folder, `${name}.jpg`));
    }
  },
  compressed: (picture, folder) =>
    upright(picture).jpeg({ quality: 75 }).toFile(path.join(folder, "compressed.jpg")),
  webp: (picture, folder) =>
    upright(picture).webp({ quality: 80 }).toFile(path.join(folder, "webp.webp")),
  webp_effort_2: (picture, folder) =>
    upright(picture).webp({ quality: 80, effort: 2 }).toFile(path.join(folder, "webp_effort_2.webp")),
};

async function main() {
  sharp.concurrency(1);
  sharp.cache(false); // in every round it sees the same pictures, which in life it does not
  console.log(JSON.stringify({ sharp: sharp.versions.sharp, libvips: sharp.versions.vips, node: process.versions.node }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { part, picture, folder } = JSON.parse(line);
    await parts[part](picture, folder);
    console.log("{}");
  }
}

main();
