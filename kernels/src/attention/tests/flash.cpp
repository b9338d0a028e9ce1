// What stands in for libtorch's flash attention on a GPU: held by the compiler to the declaration in libtorch's own header,
// and computed plainly from tensors of bf16 on the processor. It fails where it is asked for more than is meant.
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cuda.h>

#include <cmath>
#include <cstring>
#include <vector>

// [tokens, heads, head_dim] of one sequence.
struct Rows {
    const uint16_t* data;
    int64_t *sizes, *strides;

    explicit Rows(AtenTensorHandle tensor) {
        void* pointer;
        aoti_torch_get_data_ptr(tensor, &pointer);
        aoti_torch_get_sizes(tensor, &sizes);
        aoti_torch_get_strides(tensor, &strides);
        data = static_cast<const uint16_t*>(pointer);
    }

    float at(int64_t token, int64_t head, int64_t channel) const {
        const uint32_t bits = uint32_t(data[token * strides[1] + head * strides[2] + channel * strides[3]]) << 16;
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }
};

static AtenTensorHandle made(std::vector<int64_t> sizes) {
    std::vector<int64_t> strides(sizes.size(), 1);
    for (size_t axis = sizes.size() - 1; axis > 0; --axis) strides[axis - 1] = strides[axis] * sizes[axis];
    AtenTensorHandle tensor;
    const auto kind = aoti_torch_dtype_float32();
    const auto place = aoti_torch_device_type_cpu();
    aoti_torch_empty_strided(int64_t(sizes.size()), sizes.data(), strides.data(), kind, place, 0, &tensor);
    return tensor;
}

AOTITorchError aoti_torch_cuda__flash_attention_forward(
    AtenTensorHandle query, AtenTensorHandle key, AtenTensorHandle value, AtenTensorHandle* cum_seq_q,
    AtenTensorHandle* cum_seq_k, int64_t max_q, int64_t max_k, double dropout_p, int32_t is_causal,
    int32_t return_debug_mask, double* scale, int64_t* window_size_left, int64_t* window_size_right,
    AtenTensorHandle* seqused_k, AtenTensorHandle* alibi_slopes, AtenTensorHandle* ret0, AtenTensorHandle* ret1,
    AtenTensorHandle* ret2, AtenTensorHandle* ret3, AtenTensorHandle* ret4) {
    const Rows queries(query), keys(key), values(value);
    if (cum_seq_q || cum_seq_k || scale || window_size_left || window_size_right || seqused_k || alibi_slopes) return 1;
    if (dropout_p != 0 || is_causal != 1 || return_debug_mask != 0) return 1;
    if (queries.sizes[0] != 1 || queries.sizes[1] != max_q || keys.sizes[1] != max_k || max_q > max_k) return 1;

    const int64_t heads = queries.sizes[2], width = queries.sizes[3], group = heads / keys.sizes[2];
    *ret0 = made({1, max_q, heads, width});
    for (AtenTensorHandle* other : {ret1, ret2, ret3, ret4}) *other = made({1});
    void* output;
    aoti_torch_get_data_ptr(*ret0, &output);
    float* to = static_cast<float*>(output);
    for (int64_t token = 0; token < max_q; ++token) {
        for (int64_t head = 0; head < heads; ++head, to += width) {
            double total = 0;
            std::vector<double> sums(width);
            for (int64_t other = 0; other <= max_k - max_q + token; ++other) {
                double logit = 0;
                for (int64_t channel = 0; channel < width; ++channel) {
                    logit += double(queries.at(token, head, channel)) * keys.at(other, head / group, channel);
                }
                const double weight = std::exp(logit / std::sqrt(double(width)));
                total += weight;
                for (int64_t channel = 0; channel < width; ++channel) {
                    sums[channel] += weight * values.at(other, head / group, channel);
                }
            }
            for (int64_t channel = 0; channel < width; ++channel) to[channel] = float(sums[channel] / total);
        }
    }
    return 0;
}
