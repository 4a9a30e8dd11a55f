// The chart of one tag: golden band, limits, the run, and where rules fired. Its data stand in the page.
"use strict";
(() => {
  const grey = "#6b7780", ink = "#1d2429", red = "#b3261e", amber = "#8a5a00";
  let chart = null;

  function draw() {
    const place = document.getElementById("chart"), source = document.getElementById("chart-data");
    if (!place || !source || !window.echarts) return;
    const told = JSON.parse(source.textContent), names = told.names;
    // Who looked closer goes on looking there.
    const zoom = chart ? chart.getOption().dataZoom.map(({start, end}) => ({start, end})) : [{}, {}];
    if (chart) chart.dispose();
    chart = echarts.init(place, null, {renderer: "canvas"});
    const known = (line) => line.some((point) => point[1] !== null);
    const plain = (name, style, more) => ({
      name: names[name], type: "line", data: told.lines[name], showSymbol: false, lineStyle: style,
      itemStyle: {color: style.color}, animation: false, ...more,
    });
    const series = [];
    if (known(told.band.low) && known(told.band.high)) {
      const wide = told.band.high.map((point, n) => {
        const low = told.band.low[n][1];
        return [point[0], point[1] === null || low === null ? null : point[1] - low];
      });
      const hidden = {type: "line", stack: "band", stackStrategy: "all", symbol: "none", silent: true,
        lineStyle: {opacity: 0}, animation: false};
      series.push({...hidden, name: "band-low", data: told.band.low});
      series.push({...hidden, name: names.band, data: wide, itemStyle: {color: "#c9d0d5"},
        areaStyle: {color: "#c9d0d5", opacity: 0.6}});
    }
    if (known(told.lines.mean)) series.push(plain("mean", {color: grey, width: 1, type: "dashed"}));
    if (known(told.lines.set_point)) series.push(plain("set_point", {color: "#1a4f74", width: 1, type: "dotted"}, {step: "end"}));
    for (const name of ["limit_low", "limit_high"]) {
      if (known(told.lines[name])) series.push(plain(name, {color: amber, width: 1}));
    }
    series.push(plain("value", {color: ink, width: 2}, {
      markArea: {silent: true, itemStyle: {color: red, opacity: 0.08},
        data: told.marks.map((mark) => [{xAxis: mark.from}, {xAxis: mark.at}])},
      markLine: {symbol: ["none", "triangle"], symbolSize: 10, lineStyle: {color: red, width: 2, type: "solid"},
        label: {formatter: names.detected, color: red}, data: told.marks.map((mark) => ({xAxis: mark.at}))},
    }));
    chart.setOption({
      animation: false,
      grid: {left: 70, right: 30, top: 60, bottom: 80},
      legend: {top: 8, data: series.map((one) => one.name).filter((name) => name !== "band-low")},
      tooltip: {trigger: "axis", renderMode: "richText", valueFormatter: (value) =>
        value === null || value === undefined ? "–" : Number(value).toPrecision(5)},
      xAxis: {type: "value", name: names.hours, nameLocation: "middle", nameGap: 26, min: "dataMin", max: "dataMax"},
      yAxis: {type: "value", name: told.unit, scale: true},
      dataZoom: [{type: "inside", ...zoom[0]}, {type: "slider", bottom: 8, height: 20, ...zoom[1]}],
      series,
    });
    document.dispatchEvent(new CustomEvent("drawn"));
  }
  draw();
  document.addEventListener("looked", draw);
  addEventListener("resize", () => { if (chart) chart.resize(); });
})();
