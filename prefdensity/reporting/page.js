"use strict";
(() => {
  const make = (tag, set) => Object.assign(document.createElement(tag), set);
  // light or dark, whatever the system says
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = make("button", { type: "button", className: "theme" });
  const paint = () => {
    theme.textContent = (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark" ? "Light" : "Dark";
  };
  theme.onclick = () => { root.dataset.theme = theme.textContent.toLowerCase(); paint(); };
  dark.addEventListener("change", paint);
  paint();
  document.querySelector("header").append(theme);

  for (const table of document.querySelectorAll("table.rows")) {
    const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
    if (rows.length < 3) continue;
    heads.forEach((head, column) => {
      if ("still" in head.dataset) return;
      const label = head.firstElementChild, button = make("button", { type: "button" });
      button.append(...label.childNodes);
      label.append(button);
      button.onclick = () => {
        const up = head.getAttribute("aria-sort") === "descending";
        const key = (row) => row.cells[column].dataset.k ?? "";
        const numbers = rows.some(key), sign = up ? 1 : -1;
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const order = (a, b) => numbers
          ? (key(a) === "") - (key(b) === "") || sign * (key(a) - key(b))
          : -sign * a.cells[column].textContent.localeCompare(b.cells[column].textContent, "en", { numeric: true });
        body.append(...[...rows].sort(order));
      };
    });
    const box = table.parentNode;
    if (!box.classList.contains("tall")) continue;
    const bar = make("div", { className: "controls" }), count = make("output");
    const find = make("input", { type: "search", placeholder: "Search " + rows.length + " rows" });
    find.setAttribute("aria-label", "Search the rows of: " + table.caption.textContent);
    const text = (row) => row.textContent + " " + [...row.cells].map((cell) => cell.title).join(" ");
    const words = rows.map((row) => text(row).toLowerCase()), picks = [];
    bar.append(find);
    heads.forEach((head, column) => {
      if (!("filter" in head.dataset)) return;
      const pick = make("select"), value = (row) => row.cells[column].firstChild?.textContent ?? "";
      pick.setAttribute("aria-label", "Show only this " + head.textContent);
      pick.append(new Option("any " + head.textContent, ""));
      for (const each of new Set(rows.map(value).filter(Boolean))) pick.append(new Option(each, each));
      picks.push((row) => !pick.value || value(row) === pick.value);
      pick.onchange = () => show();
      bar.append(pick);
    });
    const show = () => {
      const wanted = find.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      rows.forEach((row, k) => {
        row.hidden = !(wanted.every((word) => words[k].includes(word)) && picks.every((pick) => pick(row)));
        left += !row.hidden;
      });
      count.textContent = left === rows.length ? "" : left + " of " + rows.length + " rows";
    };
    find.oninput = show;
    bar.append(count);
    box.before(bar);
  }

  for (const table of document.querySelectorAll("table.heat")) {
    const said = table.parentNode.nextElementSibling;
    const name = (row) => row.cells[0].textContent.replace(/^\d+\. /, "");
    table.onpointerover = (event) => {
      const cell = event.target.closest("td");
      if (!cell || !cell.textContent) return;
      const other = table.tBodies[0].rows[cell.cellIndex - 1];
      const parts = { row: name(cell.parentNode), column: name(other), share: cell.textContent + "%" };
      said.textContent = table.dataset.says.replace(/\{(\w+)\}/g, (_, part) => parts[part]);
    };
  }
})();
