package org.approxifer.torchserve.ts;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.approxifer.torchserve.core.ByHand;
import org.approxifer.torchserve.core.Router;
import org.pytorch.serve.servingsdk.Context;
import org.pytorch.serve.servingsdk.ModelServerEndpoint;
import org.pytorch.serve.servingsdk.annotations.Endpoint;
import org.pytorch.serve.servingsdk.annotations.helpers.EndpointTypes;
import org.pytorch.serve.servingsdk.http.Request;
import org.pytorch.serve.servingsdk.http.Response;

/**
 * {@code PUT /coded/(model)?quarantine=(worker id)} and {@code ?readmit=(worker id)} on the
 * management port, so that who may ask for inference cannot take workers away. Parameters only:
 * TorchServe releases a plugin request's body before it is read.
 */
@Endpoint(
    urlPattern = "coded",
    endpointType = EndpointTypes.MANAGEMENT,
    description = "Quarantine a worker of a coded model, or readmit it")
public final class QuarantineEndpoint extends ModelServerEndpoint {
  private static final Gson GSON = new GsonBuilder().setPrettyPrinting().create();

  private final Watcher watcher = Watcher.start();

  @Override
  public void doPut(Request request, Response response, Context context) throws IOException {
    String[] segments = request.getRequestURI().split("\\?", 2)[0].split("/");
    String model = segments.length > 2 ? segments[2] : "";
    String quarantine = parameter(request, "quarantine");
    String readmit = parameter(request, "readmit");
    int status = 400;
    String message = "expected one of the parameters quarantine and readmit, a worker's id each";
    if ((quarantine == null) != (readmit == null)) {
      String worker = quarantine == null ? readmit : quarantine;
      switch (wish(model, worker, quarantine != null)) {
        case DONE -> {
          status = 200;
          message = "worker " + worker + (quarantine == null ? " readmitted" : " quarantined");
        }
        case REFUSED -> {
          status = 409;
          message = "worker " + worker + " stays: half of the workers are in quarantine";
        }
        default -> {
          status = 404;
          message =
              "no coded model \"" + model + "\" has a worker " + worker + "; GET /coded lists them";
        }
      }
    }
    response.setStatus(status);
    response.setContentType("application/json");
    Map<String, Object> body = new LinkedHashMap<>();
    body.put("code", status);
    body.put("message", message);
    response.getOutputStream().write(GSON.toJson(body).getBytes(StandardCharsets.UTF_8));
  }

  /** Asks each version of the model; a worker's id is unique, so one of them knows it. */
  private ByHand wish(String model, String worker, boolean quarantine) {
    for (Attachment attachment : watcher.attachments()) {
      if (attachment.model().getModelName().equals(model)) {
        Router router = attachment.router();
        ByHand done = quarantine ? router.quarantine(worker) : router.readmit(worker);
        if (done != ByHand.UNKNOWN) {
          return done;
        }
      }
    }
    return ByHand.UNKNOWN;
  }

  private static String parameter(Request request, String name) {
    List<String> values = request.getParameter(name);
    return values == null || values.isEmpty() ? null : values.get(0);
  }
}
