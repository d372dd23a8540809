"use strict";

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// --- charts: a cursor that follows the pointer and the arrow keys, and the text of its point ---

for (const chart of document.querySelectorAll(".hover")) {
  const points = JSON.parse(chart.querySelector("script").textContent);
  const plot = chart.querySelector(".plot"), svg = plot.querySelector("svg");
  const readout = chart.querySelector(".readout"), cursor = svg.querySelector(".cursor");
  const rule = cursor.querySelector(".rule"), rings = cursor.querySelectorAll(".ring");
  let at = points.length - 1;

  const show = (index) => {
    at = clamp(index, 0, points.length - 1);
    const point = points[at];
    cursor.removeAttribute("hidden");
    rule.setAttribute("x1", point.x);
    rule.setAttribute("x2", point.x);
    rings.forEach((ring) => ring.setAttribute("visibility", "hidden"));
    for (const [curve, y] of point.y) {
      rings[curve].setAttribute("cx", point.x);
      rings[curve].setAttribute("cy", y);
      rings[curve].setAttribute("visibility", "visible");
    }
    readout.textContent = point.text;
    plot.setAttribute("aria-valuenow", at + 1);
    plot.setAttribute("aria-valuetext", point.text);
  };

  const nearest = (event) => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    let best = 0;
    points.forEach((point, index) => {
      if (Math.abs(point.x - x) < Math.abs(points[best].x - x)) best = index;
    });
    return best;
  };

  plot.addEventListener("pointermove", (event) => show(nearest(event)));
  plot.addEventListener("pointerdown", (event) => show(nearest(event)));
  plot.addEventListener("focus", () => { if (plot.matches(":focus-visible")) show(at); });
  plot.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.round(points.length / 10));
    const to = {
      ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1,
      PageDown: at - page, PageUp: at + page, Home: 0, End: points.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(to);
  });
}

// --- films: findings jump to their second, and the tracks of the episode follow ---

const film = (id) => document.getElementById(id);

const seek = (video, second) => {
  const go = () => {
    const end = Number.isFinite(video.duration) ? Math.max(0, video.duration - 0.05) : second;
    video.currentTime = clamp(second, 0, end);
  };
  if (video.readyState >= 1) go();
  else {
    video.addEventListener("loadedmetadata", go, { once: true });
    video.load();
  }
};

// Some browsers show nothing before the first seek.
for (const video of document.querySelectorAll("video")) {
  const begin = () => { if (video.currentTime === 0) video.currentTime = 0.001; };
  if (video.readyState >= 1) begin();
  else video.addEventListener("loadedmetadata", begin, { once: true });
}

const play = (video) => video.play().catch(() => {});  // a browser may refuse; the controls remain

const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;

for (const button of document.querySelectorAll("button[data-film]")) {
  const video = film(button.dataset.film);
  button.addEventListener("click", () => {
    seek(video, Number(button.dataset.second));
    video.scrollIntoView({ block: "center", behavior: calm ? "auto" : "smooth" });
    video.focus({ preventScroll: true });
    play(video);
  });
}

for (const button of document.querySelectorAll("button[data-together]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const videos = [...document.querySelectorAll("video[data-alone]")];
    videos.forEach((video) => { video.pause(); seek(video, 0); });
    videos.forEach(play);
  });
}

for (const tracks of document.querySelectorAll("[data-tracks]")) {
  const video = film(tracks.dataset.tracks);
  if (!video) continue;
  const found = [...tracks.querySelectorAll("svg")].map((svg) => ({
    svg, rule: svg.querySelector(".now"), start: Number(svg.dataset.start || 0),
    pixels: Number(svg.dataset.pixels), scroller: svg.closest(".scroll"),
  })).filter((track) => track.rule);

  const follow = () => {
    for (const { rule, start, pixels, scroller } of found) {
      const x = start + video.currentTime * pixels;
      rule.setAttribute("x1", x);
      rule.setAttribute("x2", x);
      if (scroller && !video.paused) scroller.scrollLeft = x - scroller.clientWidth / 3;
    }
    if (!video.paused && !video.ended) requestAnimationFrame(follow);
  };
  video.addEventListener("play", follow);
  video.addEventListener("timeupdate", follow);
  video.addEventListener("seeked", follow);

  for (const { svg, start, pixels } of found) {
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
      seek(video, (x - start) / pixels);
    });
  }
}
