// Panels whose points say what they are, on pointing, tapping, or with the arrow keys. The pictures stay as they are.
(() => {
  if (!("DecompressionStream" in window)) return;
  const REACH = { mouse: 12, touch: 24 }; // CSS pixels around a pointer
  const FAVOUR = 4; // by how much a marked point may lie farther than one of the crowd

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true"); // the focused panel says the same as its value
  document.body.append(tip);
  let active; // the panel that shows a point
  let pinned = false; // a clicked point stays, so that its text can be selected

  // What a point is: the heading, then the cells that are not empty.
  function describe(points, index) {
    const [title, ...rest] = points.labels.map((label, column) => [label, points.cells[column][index]]);
    return { title: title[1], facts: rest.filter(([, text]) => text !== "") };
  }

  function element(name, text) {
    const made = document.createElement(name);
    made.textContent = text;
    return made;
  }

  // Beside the point and inside the window.
  function place() {
    if (!active) return;
    const at = active.ring.getBoundingClientRect();
    const width = tip.offsetWidth, height = tip.offsetHeight, gap = 6;
    const room = document.documentElement.clientWidth - width - gap;
    const left = at.right + gap <= room ? at.right + gap : at.left - width - gap;
    const below = at.bottom + gap + height <= innerHeight || at.top < height + gap;
    tip.style.left = `${Math.max(gap, Math.min(left, room))}px`;
    tip.style.top = `${below ? at.bottom + gap : at.top - gap - height}px`;
  }

  function hide() {
    if (active) active.ring.hidden = true;
    active = undefined;
    pinned = false;
    tip.hidden = true;
    tip.classList.remove("pinned");
  }

  class Panel {
    constructor(box, points) {
      this.box = box;
      this.points = points;
      this.count = points.x.length;
      this.current = Math.max(0, points.weight.indexOf(Math.max(...points.weight)));
      this.marked = [...points.weight.keys()].filter((index) => points.weight[index] > 0);
      if (!this.marked.length) this.marked = [...points.weight.keys()];
      this.ring = element("div", "");
      this.ring.className = "ring";
      this.ring.hidden = true;
      this.cursor = element("div", "");
      this.cursor.className = "cursor";
      this.cursor.tabIndex = 0;
      const states = { role: "slider", "aria-label": `Points of: ${box.querySelector("img").alt}`, "aria-valuemin": 1, "aria-valuemax": this.count };
      for (const [name, value] of Object.entries(states)) this.cursor.setAttribute(name, value);
      this.say();
      box.append(this.ring, this.cursor);
      this.cursor.addEventListener("focus", () => this.show(this.current));
      this.cursor.addEventListener("blur", () => !pinned && hide());
      this.cursor.addEventListener("keydown", (event) => this.key(event));
      box.addEventListener("pointermove", (event) => this.point(event));
      box.addEventListener("pointerdown", (event) => (this.kind = event.pointerType));
      box.addEventListener("pointerleave", () => !pinned && active === this && hide());
      box.addEventListener("click", (event) => this.pin(event));
    }

    // The nearest point within reach of an event.
    nearest(event, reach) {
      const box = this.box.getBoundingClientRect();
      let found = -1, least = reach;
      for (let index = 0; index < this.count; index++) {
        const away = Math.hypot(
          box.left + this.points.x[index] * box.width - event.clientX,
          box.top + this.points.y[index] * box.height - event.clientY,
        );
        const distance = away - (this.points.weight[index] > 0 ? FAVOUR : 0);
        if (away <= reach && distance < least) [found, least] = [index, distance];
      }
      return found;
    }

    point(event) {
      if (pinned || event.pointerType === "touch") return;
      const found = this.nearest(event, REACH.mouse);
      if (found >= 0) this.show(found);
      else if (active === this) hide();
    }

    pin(event) {
      const found = this.nearest(event, REACH[this.kind] ?? REACH.mouse);
      hide();
      if (found < 0) return;
      this.show(found);
      pinned = true;
      tip.classList.add("pinned");
    }

    say() {
      const { title, facts } = describe(this.points, this.current);
      this.cursor.setAttribute("aria-valuenow", this.current + 1);
      this.cursor.setAttribute("aria-valuetext", [title, ...facts.map(([label, text]) => `${label} ${text}`)].join("; "));
    }

    show(index) {
      if (active === this && this.current === index && !tip.hidden) return;
      hide();
      active = this;
      this.current = index;
      this.say();
      this.ring.style.left = `${100 * this.points.x[index]}%`;
      this.ring.style.top = `${100 * this.points.y[index]}%`;
      this.ring.hidden = false;
      const { title, facts } = describe(this.points, index);
      const list = document.createElement("dl");
      for (const [label, text] of facts) list.append(element("dt", label), element("dd", text));
      tip.replaceChildren(element("strong", title), list);
      tip.hidden = false;
      place();
    }

    key(event) {
      const last = this.count - 1;
      const before = this.marked.filter((index) => index < this.current).pop() ?? this.current;
      const after = this.marked.find((index) => index > this.current) ?? this.current;
      const target = {
        ArrowLeft: before, ArrowRight: after, ArrowDown: this.current - 1, ArrowUp: this.current + 1,
        PageDown: this.current - 20, PageUp: this.current + 20, Home: 0, End: last,
      }[event.key];
      if (target === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      this.show(Math.max(0, Math.min(target, last)));
    }
  }

  addEventListener("scroll", place, { passive: true, capture: true });
  addEventListener("resize", place);
  addEventListener("keydown", (event) => event.key === "Escape" && hide());
  addEventListener("pointerdown", (event) => pinned && !tip.contains(event.target) && !active.box.contains(event.target) && hide());

  for (const box of document.querySelectorAll("[data-points]")) {
    unpack(box.dataset.points).then((text) => {
      const points = JSON.parse(text);
      if (!points.x.length) return;
      new Panel(box, points);
      const hint = box.closest("figure").querySelector(".hint");
      if (hint) hint.hidden = false;
    });
  }
})();
