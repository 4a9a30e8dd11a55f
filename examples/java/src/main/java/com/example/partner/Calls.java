package com.example.partner;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Timestamp;
import com.google.rpc.ErrorInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.AbstractStub;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.util.Locale;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/** How calls are made, and what all commands share. */
final class Calls {
  /** A call is given up after so many seconds, and tried so often in all. */
  private static final long CALL_SECONDS = 10;

  static final int ATTEMPTS = 10;
  private static final double FIRST_WAIT = 0.1;
  private static final double LONGEST_WAIT = 10;

  /** Statuses after which the same request, sent again, has one effect and may succeed. */
  private static final Set<Status.Code> AGAIN =
      Set.of(
          Status.Code.UNAVAILABLE,
          Status.Code.DEADLINE_EXCEEDED,
          Status.Code.RESOURCE_EXHAUSTED,
          Status.Code.CANCELLED);

  /**
   * Beside those, statuses after which a subscription goes on from its position: it changes nothing,
   * it may always ask again.
   */
  private static final Set<Status.Code> GO_ON =
      Set.of(
          Status.Code.INTERNAL,
          Status.Code.UNKNOWN);

  private Calls() {}

  /** It could not be done; the message says why. */
  static final class Failed extends Exception {
    Failed(String message) {
      super(message);
    }
  }

  /** The stub with what every call says about its caller. */
  static <S extends AbstractStub<S>> S as(String actor, S stub) {
    Metadata headers = new Metadata();
    headers.put(Metadata.Key.of("x-actor", Metadata.ASCII_STRING_MARSHALLER), actor);
    return stub.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  /** One call with its deadline, sent again while that can help. */
  static <S extends AbstractStub<S>, A> A call(S stub, Function<S, A> one) throws Failed {
    for (int attempt = 0; ; attempt++) {
      try {
        return one.apply(stub.withDeadlineAfter(CALL_SECONDS, TimeUnit.SECONDS));
      } catch (StatusRuntimeException error) {
        if (!AGAIN.contains(error.getStatus().getCode()) || attempt == ATTEMPTS - 1) {
          throw new Failed(told(error));
        }
        pause(attempt, error.getStatus().getCode().name(), stub.getChannel().authority());
      }
    }
  }

  static boolean goesOn(StatusRuntimeException error) {
    Status.Code code = error.getStatus().getCode();
    return AGAIN.contains(code) || GO_ON.contains(code);
  }

  /** Wait longer after every failure, and never as long as others do ("full jitter"). */
  static void pause(int attempt, String why, String to) throws Failed {
    double most = Math.min(LONGEST_WAIT, FIRST_WAIT * (1L << attempt));
    double seconds = ThreadLocalRandom.current().nextDouble(most);
    System.err.printf(Locale.ROOT, "partner: %s, again in %.1f s at %s%n", why, seconds, to);
    try {
      TimeUnit.MILLISECONDS.sleep((long) (seconds * 1000));
    } catch (InterruptedException interrupted) {
      throw new Failed("stopped");
    }
  }

  /** What a refused call says: reason, sentence and field. */
  static String told(StatusRuntimeException error) {
    String reason = error.getStatus().getCode().name();
    String where = "";
    com.google.rpc.Status status = StatusProto.fromThrowable(error);
    for (Any detail : status == null ? java.util.List.<Any>of() : status.getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        try {
          ErrorInfo info = detail.unpack(ErrorInfo.class);
          reason = info.getReason();
          String field = info.getMetadataOrDefault("field", "");
          where = field.isEmpty() ? "" : " (field " + field + ")";
        } catch (InvalidProtocolBufferException unreadable) {
          continue;
        }
      }
    }
    return reason + ": " + error.getStatus().getDescription() + where;
  }

  /** Replace a file in one step: after a crash it is the old one or the new one. */
  static void writeWhole(Path path, byte[] data) throws IOException {
    Path made = path.resolveSibling(path.getFileName() + ".new");
    try (FileChannel file =
        FileChannel.open(
            made,
            StandardOpenOption.CREATE,
            StandardOpenOption.WRITE,
            StandardOpenOption.TRUNCATE_EXISTING)) {
      ByteBuffer left = ByteBuffer.wrap(data);
      while (left.hasRemaining()) {
        file.write(left);
      }
      file.force(true);
    }
    Files.move(made, path, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
  }

  /** RFC 3339 in whole seconds. */
  static String stamp(Timestamp at) {
    return Instant.ofEpochSecond(at.getSeconds()).toString();
  }
}
