package example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeSet;

/** What a refusal tells programs: its code, and what its details say. */
final class Refusal {
  private Refusal() {}

  /** Makes a call that must be refused. */
  static Map<String, Object> of(Runnable call) {
    Map<String, Object> found = new LinkedHashMap<>();
    try {
      call.run();
    } catch (StatusRuntimeException refused) {
      found.put("code", refused.getStatus().getCode().name());
      Status told = StatusProto.fromThrowable(refused);
      try {
        for (Any detail : told.getDetailsList()) {
          if (detail.is(ErrorInfo.class)) {
            ErrorInfo one = detail.unpack(ErrorInfo.class);
            found.put("reason", one.getReason());
            found.put("domain", one.getDomain());
          } else if (detail.is(BadRequest.class)) {
            TreeSet<String> fields = new TreeSet<>();
            detail
                .unpack(BadRequest.class)
                .getFieldViolationsList()
                .forEach(one -> fields.add(one.getField()));
            found.put("fields", fields);
          }
        }
      } catch (InvalidProtocolBufferException broken) {
        throw new IllegalStateException(broken);
      }
      return found;
    }
    throw new IllegalStateException("the call was answered, and should have been refused");
  }
}
