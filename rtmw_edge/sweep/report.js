// Shows one chart at a time, hides the cells that the boxes leave out, and draws the Pareto fronts of those that stay.
// Without it every chart and row is there.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const picked = (name) => new Set(all(`input[name="${name}"]:checked`).map((box) => box.value));
  const rows = new Map(all("tr[data-row]").map((row) => [row.dataset.row, row]));

  const fields = ["target", "lane", "calibrated", "variant", "board"].filter((name) => all(`input[name="${name}"]`).length);

  const front = (points) => {
    let best = Infinity;
    const corners = [];
    for (const [x, y] of points.sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
      if (y < best) { corners.push([x, y]); best = y; }
    }
    return corners.map(([x, y], i) => (i ? `H${x}V${y}` : `M${x} ${y}`)).join("");
  };

  const update = () => {
    const kept = Object.fromEntries(fields.map((name) => [name, picked(name)]));
    const stays = ([name, values], row) => !row.dataset[name] || values.has(row.dataset[name]);
    const shown = (row) => Object.entries(kept).every((kind) => stays(kind, row));
    for (const row of all("tr[data-target]")) row.hidden = !shown(row);
    const [part] = picked("part"), [cost] = picked("cost");
    for (const figure of all("figure[data-part]")) {
      figure.hidden = figure.dataset.part !== part || figure.dataset.cost !== cost;
      const points = all("a.point", figure);
      for (const point of points) point.toggleAttribute("hidden", !shown(rows.get(point.dataset.row)));
      const left = points.filter((point) => !point.hasAttribute("hidden"));
      for (const path of all("path.front", figure)) {
        const mine = left.filter((point) => point.dataset.group === path.dataset.group);
        path.setAttribute("d", front(mine.map((point) => [+point.dataset.x, +point.dataset.y])));
      }
    }
    const count = all("tr[data-row]").filter((row) => !row.hidden).length;
    document.getElementById("count").textContent = `${count} of ${rows.size} cells shown`;
  };

  for (const control of all(".controls")) control.hidden = false;
  document.addEventListener("change", update);
  update();
})();
