"""The dashboards, in the order in which somebody looks: where it hurts, then why."""

from deploy.grafana.boards import backbone, loops, one_run, plant, services, site, trust
from deploy.grafana.model import Board

BOARDS: tuple[Board, ...] = (
    loops.BOARD,
    one_run.BOARD,
    plant.BOARD,
    site.BOARD,
    backbone.BOARD,
    services.BOARD,
    trust.BOARD,
)
