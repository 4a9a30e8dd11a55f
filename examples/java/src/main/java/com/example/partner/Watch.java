package com.example.partner;

import com.google.protobuf.InvalidProtocolBufferException;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Iterator;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import pharmaloop.common.v1.Types.PositionVector;
import pharmaloop.production.v1.ProductionServiceGrpc;
import pharmaloop.production.v1.ProductionServiceGrpc.ProductionServiceBlockingStub;
import pharmaloop.production.v1.Service.LotChange;
import pharmaloop.production.v1.Service.LotState;
import pharmaloop.production.v1.Service.WatchLotsRequest;
import pharmaloop.production.v1.Service.WatchLotsResponse;

/** Tells of every held lot, from the first that the log holds, in this run or one before. */
final class Watch {
  /** A subscription is renewed: it has a deadline like every call. */
  private static final long WATCH_SECONDS = 3600;

  private final ProductionServiceBlockingStub stub;
  private final Partner.Options options;
  private final Path state;
  /** The newest version that was dealt with of each lot. */
  private final Map<String, Long> newest = new HashMap<>();
  private int heard = 0;
  private int attempt = 0;

  Watch(ManagedChannel channel, Partner.Options options) {
    this.stub = Calls.as(options.actor(), ProductionServiceGrpc.newBlockingStub(channel));
    this.options = options;
    this.state = Path.of(options.state());
  }

  int run() throws Calls.Failed, IOException {
    while (true) {
      String why = "the stream ended";
      try {
        if (listen()) {
          return 0;
        }
      } catch (StatusRuntimeException error) {
        if (error.getStatus().getCode() == Status.Code.OUT_OF_RANGE) {
          throw new Calls.Failed(Calls.told(error) + "; remove " + state + " to begin anew");
        }
        if (!Calls.goesOn(error)) {
          throw new Calls.Failed(Calls.told(error));
        }
        why = error.getStatus().getCode().name();
      }
      Calls.pause(attempt, why, options.to());
      attempt = Math.min(attempt + 1, Calls.ATTEMPTS);
    }
  }

  /** What follows the stored position, or everything where none is stored. */
  private WatchLotsRequest resume() throws Calls.Failed, IOException {
    WatchLotsRequest.Builder request =
        WatchLotsRequest.newBuilder().addStates(LotState.LOT_STATE_HELD);
    if (!options.product().isEmpty()) {
      request.addProducts(options.product());
    }
    if (!Files.exists(state)) {
      return request.setFromStart(true).build();
    }
    WatchLotsResponse stored = WatchLotsResponse.getDefaultInstance();
    try {
      stored = WatchLotsResponse.parseFrom(Files.readAllBytes(state));
    } catch (InvalidProtocolBufferException error) {
      // It is refused below, like a file without a position.
    }
    if (!stored.hasPosition()) {
      throw new Calls.Failed(
          state + ": no position is stored in it; remove it to begin anew");
    }
    stored.getChangesList().forEach(change -> newest.put(change.getLot(), change.getVersion()));
    return request.setAfter(stored.getPosition()).build();
  }

  /**
   * Replace position and versions in one step. Who has a database keeps the version with the lot,
   * and the position in the same transaction.
   */
  private void store(PositionVector position) throws IOException {
    WatchLotsResponse.Builder stored = WatchLotsResponse.newBuilder().setPosition(position);
    newest.forEach(
        (lot, version) ->
            stored.addChanges(LotChange.newBuilder().setLot(lot).setVersion(version)));
    Calls.writeWhole(state, stored.build().toByteArray());
  }

  /** Follow one stream; true once as many lots were heard as were asked for. */
  private boolean listen() throws Calls.Failed, IOException {
    Iterator<WatchLotsResponse> stream =
        stub.withDeadlineAfter(WATCH_SECONDS, TimeUnit.SECONDS).watchLots(resume());
    while (stream.hasNext()) {
      WatchLotsResponse answer = stream.next();
      attempt = 0;
      for (LotChange change : answer.getChangesList()) {
        // Told again, or an older one behind a newer one. 0 is a platform without versions.
        if (change.getVersion() > 0
            && change.getVersion() <= newest.getOrDefault(change.getLot(), 0L)) {
          continue;
        }
        newest.put(change.getLot(), change.getVersion());
        System.out.printf(
            "held %s since %s: %s%n",
            change.getLot(), Calls.stamp(change.getAt()), change.getReason());
        heard++;
      }
      // Only now: after a kill before this line they are told again, and none is lost.
      store(answer.getPosition());
      if (options.count() > 0 && heard >= options.count()) {
        return true;
      }
    }
    return false;
  }
}
